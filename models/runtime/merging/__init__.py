"""From the scores of tiles, passes, members and parts to one answer for each voxel.

`merger` adds tiles and lets finished planes go; the other modules hold one rule each: of scores
(means, plain or weighted), of labels (votes, STAPLE, SIMPLE, parts), of what is decided, and of
what is unsure. Rules of scores are functions of one slab, so that no whole volume of all classes is
ever held.
"""

__all__: list[str] = []
