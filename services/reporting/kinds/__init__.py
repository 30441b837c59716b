"""The kinds of results: one folder for each, in which writing and checking lie beside each other.

`registry` (`KINDS`, `Kinds`) lists them, `kind` (`Kind`, `Order`, `Option`) is what each declares:
what it makes of a job's outputs, its check, its forms, and the kinds that it needs. `segmentation`
is the SEG, `report` the SR. A kind may know the kinds that it refers to (a report names the
segments of a segmentation), never the other way round.
"""
