"""The kinds of results: one folder for each, in which writing and checking lie beside each other.

`segmentation` is the SEG, `report` the SR. A kind may know the kinds that it refers to (a report
names the segments of a segmentation), never the other way round.
"""
