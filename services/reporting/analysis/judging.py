"""What a reader has to be told of a result: a volume, networks that disagree, an edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import Plausibility
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.disagreement import disagreement_found
from services.reporting.job import Withholding

# UCUM unit -> millilitres.
_ML = {"mm3": 1e-3, "cm3": 1.0, "mL": 1.0, "ml": 1.0, "L": 1e3, "l": 1e3}
# Where the axes of the patient (LPS) lead, forwards and backwards.
_TOWARDS = (("left", "right"), ("back", "front"), ("head", "feet"))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of an analysis.

    Attributes:
        withholding: set when a result is so that it must not leave.
        remarks: sentences for the reader, by the segment's number in the manifest.
    """

    withholding: Withholding | None
    remarks: dict[int, str]


def judge(analysis: Analysis) -> Judgement:
    """Compares a result with the manifest's findings, and segments with the edges of the images."""
    told: dict[int, list[str]] = {}
    for finding in analysis.job.manifest.findings:
        found = (
            _volume_told(analysis, finding)
            if isinstance(finding, Plausibility)
            else disagreement_found(analysis, finding)
        )
        if isinstance(found, Withholding):
            return Judgement(found, {})
        if found is not None:
            told.setdefault(finding.segment, []).append(found)
    for count in analysis.counts:
        told.setdefault(count.number, []).extend(_edges_told(analysis, count.number))
    return Judgement(None, {number: " ".join(each) for number, each in told.items() if each})


def reached_edges(
    labels: npt.NDArray[np.uint8], segment: int, affine: npt.NDArray[np.float64]
) -> list[str]:
    """The sides of the field of view that a segment reaches, as directions of the patient.

    Args:
        labels: uint8 [k, j, i].
        affine: float64 4x4, (i, j, k, 1) to LPS mm.
    """
    reached: list[str] = []
    for axis in range(3):
        along = affine[:3, 2 - axis]
        component = int(np.abs(along).argmax())
        onwards, back = _TOWARDS[component][:: 1 if along[component] > 0 else -1]
        for place, direction in ((0, back), (-1, onwards)):
            if direction not in reached and bool((labels.take(place, axis) == segment).any()):
                reached.append(direction)
    return reached


def _edges_told(analysis: Analysis, segment: int) -> list[str]:
    """A sentence for each kind of edge that a segment reaches: of the images, and within them."""
    label = analysis.job.manifest.segment(segment).label
    beyond = "a part of it may lie outside and is not measured."
    told: list[str] = []
    edges = reached_edges(analysis.labels, segment, analysis.source.affine)
    if edges:
        towards = " and the ".join(edges)
        told.append(f"{label} reaches the edge of the images towards the {towards}: {beyond}")
    if segment in analysis.job.layers.touching_unmeasured:
        told.append(f"{label} reaches the edge of what was measured within the images: {beyond}")
    return told


def _volume_told(analysis: Analysis, range_: Plausibility) -> Withholding | str | None:
    """What becomes of a result by one range: withheld, a sentence for the reader, or nothing."""
    for value in analysis.values:
        if value.segment_number != range_.segment or value.name != "volume":
            continue
        if value.value is None:
            continue
        measured_ml = value.value * _ML[value.unit]
        if range_.min_ml <= measured_ml <= range_.max_ml:
            continue
        if range_.otherwise == "withhold":
            return Withholding(
                "implausible_measurement",
                {
                    "segment": value.segment_label,
                    "value": round(measured_ml, 1),
                    "unit": "mL",
                    "minimum": range_.min_ml,
                    "maximum": range_.max_ml,
                },
            )
        return (
            f"{value.segment_label} measures {measured_ml:.1f} mL, outside the expected "
            f"{range_.min_ml:g} to {range_.max_ml:g} mL. Please check the segmentation."
        )
    return None
