"""Metrics against references.

Pure functions over masks; used by the parity check of a build and by tests.
"""

from models.evaluate.overlap import dice, differing_voxels

__all__ = ["dice", "differing_voxels"]
