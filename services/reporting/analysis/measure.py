"""Measuring segments: exact voxel counts, and volumes from them.

A segment without a voxel has no volume here, not a volume of zero: it was looked for and not
found, and what it measures is unknown. Such a measurement has no value, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import Manifest
from services.reporting.errors import JobError

# UCUM unit -> how many of it one cubic millimetre is.
_PER_MM3 = {"mm3": 1.0, "cm3": 1e-3, "mL": 1e-3, "ml": 1e-3, "L": 1e-6, "l": 1e-6}
# Decimals that are kept: a thousandth of a cubic millimetre.
_DECIMALS = {"mm3": 3, "cm3": 6, "mL": 6, "ml": 6, "L": 9, "l": 9}


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """How many voxels a segment has.

    Attributes:
        number: its number in the manifest.
        voxels: int64 [k], in each slice.
    """

    number: int
    voxels: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """The voxels in all slices."""
        return int(self.voxels.sum())

    def weighted(self, steps: npt.NDArray[np.float64] | None) -> float:
        """The voxels in all slices, each slice weighted by its step (`SourceSeries.steps`)."""
        return self.total if steps is None else float(self.voxels @ steps)

    @property
    def found(self) -> bool:
        """Whether there is a voxel of the segment."""
        return self.total > 0


@dataclass(frozen=True, slots=True)
class MeasuredValue:
    """One measurement of one segment.

    Attributes:
        segment_number: the segment's number in the manifest.
        wanted: the measurement's place in the manifest, from 0: two of one kind may differ in
            concept and unit.
        name: the manifest's kind of measurement, `volume`.
        value: None where the value is not known.
        unit: UCUM.
        why_unknown: why there is no value, as a sentence; empty where there is one.
        low, high: the interval of the value, in its unit; None where none was determined.
    """

    segment_number: int
    segment_label: str
    wanted: int
    name: str
    value: float | None
    unit: str
    why_unknown: str = ""
    low: float | None = None
    high: float | None = None


def voxel_histogram(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """int64 [k, 256]: how often each value occurs in each slice, in one pass over the labels.

    Args:
        labels: uint8 [k, j, i] on the source grid; 0 is background.
    """
    return np.stack([np.bincount(plane.ravel(), minlength=256) for plane in labels])


def count_voxels(histogram: npt.NDArray[np.int64], manifest: Manifest) -> tuple[SegmentCount, ...]:
    """The voxels of every segment of the manifest, from the labels' histogram."""
    return tuple(
        SegmentCount(segment.number, histogram[:, segment.number]) for segment in manifest.segments
    )


def unknown_labels(histogram: npt.NDArray[np.int64], manifest: Manifest) -> list[int]:
    """Values that occur in the labels and that no segment of the manifest has."""
    known = {0, *(segment.number for segment in manifest.segments)}
    present = np.flatnonzero(histogram.sum(axis=0))
    return [int(value) for value in present if int(value) not in known]


def measure(
    manifest: Manifest,
    counts: tuple[SegmentCount, ...],
    voxel_volume_mm3: float,
    steps: npt.NDArray[np.float64] | None = None,
) -> tuple[MeasuredValue, ...]:
    """The measurements that the manifest asks for, in its order; of segments not found, why not.

    Args:
        steps: where slices are unevenly spaced, what each stands for (`SourceSeries.steps`).

    Raises:
        JobError: the manifest asks for a unit that a volume cannot be given in.
    """
    values: list[MeasuredValue] = []
    for place, wanted in enumerate(manifest.measurements):
        unit = wanted.unit.value
        for count in counts:
            if count.number not in (wanted.segments or (count.number,)):
                continue
            label = manifest.segment(count.number).label
            known = volume(count.weighted(steps), voxel_volume_mm3, unit) if count.found else None
            values.append(
                MeasuredValue(
                    segment_number=count.number,
                    segment_label=label,
                    wanted=place,
                    name=wanted.kind,
                    value=known,
                    unit=unit,
                    why_unknown="" if count.found else f"{label} was looked for and not found.",
                )
            )
    return tuple(values)


def volume(voxels: float, voxel_volume_mm3: float, unit: str) -> float:
    """The volume of `voxels` in a UCUM unit, rounded to a thousandth of a cubic millimetre.

    Raises:
        JobError: the unit is none of a volume.
    """
    if unit not in _PER_MM3:
        raise JobError(f"A volume cannot be given in '{unit}'; use one of {', '.join(_PER_MM3)}.")
    return round(voxels * voxel_volume_mm3 * _PER_MM3[unit], _DECIMALS[unit])
