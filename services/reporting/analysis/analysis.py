"""What is known of a job once its labels were read and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.reporting.analysis.measure import MeasuredValue, SegmentCount
from services.reporting.job import Job
from services.reporting.source.series import SourceSeries


@dataclass(frozen=True)
class Analysis:
    """A job, its source and its labels: what objects are written from and checked against.

    Attributes:
        labels: uint8 [k, j, i] on the source's grid.
        counts: one for each segment of the manifest, found or not.
        values: the measurements that the manifest asks for, of found segments.
    """

    job: Job
    source: SourceSeries
    labels: npt.NDArray[np.uint8]
    counts: tuple[SegmentCount, ...]
    values: tuple[MeasuredValue, ...]

    @property
    def found(self) -> bool:
        """Whether any segment was found."""
        return any(count.found for count in self.counts)

    @cached_property
    def numbers_in_object(self) -> Mapping[int, int]:
        """Segment numbers in the objects, by the segment's number in the manifest.

        An object's segments are numbered 1..N without gaps; the object lacks segments that were not
        found, so that its numbers can differ from the manifest's.
        """
        found = [count.number for count in self.counts if count.found]
        return {number: place for place, number in enumerate(found, start=1)}
