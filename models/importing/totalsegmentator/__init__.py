"""TotalSegmentator's releases as models: one training, or the part-models of one whole."""

from models.importing.totalsegmentator.importing import import_totalsegmentator

__all__ = ["import_totalsegmentator"]
