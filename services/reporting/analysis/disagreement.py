"""What a reader has to be told where the members of an ensemble do not agree enough."""

from __future__ import annotations

from collections.abc import Mapping

from models.manifest import Disagreement
from services.reporting.analysis.analysis import Analysis
from services.reporting.job import ModelNumbers, Withholding

# What each number is called, and what its ends mean.
_CALLED: Mapping[str, tuple[str, str]] = {
    "disagreement": ("disagreement", "0: all find the same, 1: no two share a voxel"),
    "entropy": ("uncertainty", "0: sure of each voxel, 1: undecided"),
    "mutual_information": ("shared uncertainty", "0: all say the same, 1: each is sure of another"),
}


def disagreement_found(analysis: Analysis, finding: Disagreement) -> Withholding | str | None:
    """What becomes of a result by one finding: withheld, a sentence for the reader, or nothing.

    A number that is not known, such as the entropy of a segment that was not found, tells nothing.
    """
    numbers = analysis.job.numbers.get(finding.of)
    value = _of_segment(numbers, finding.number, finding.segment)
    if numbers is None or value is None or value <= finding.above:
        return None
    label = analysis.job.manifest.segment(finding.segment).label
    members = int(numbers.whole.get("members", 0))
    called, ends = _CALLED[finding.number]
    if finding.otherwise == "withhold":
        return Withholding(
            "members_disagree",
            {
                "members": members,
                "segment": label,
                "measure": called,
                "value": round(value, 3),
                "maximum": finding.above,
            },
        )
    return (
        f"The {members} networks disagree about {label}: {called} {value:.3g}, at most "
        f"{finding.above:g} is expected ({ends}). {_alone(analysis, numbers, finding, label)}"
        "Please check the segmentation."
    )


def _alone(analysis: Analysis, numbers: ModelNumbers, finding: Disagreement, label: str) -> str:
    """Who finds a segment that all together do not find."""
    if any(count.number == finding.segment and count.found for count in analysis.counts):
        return ""
    finding_it = _of_segment(numbers, "members_finding", finding.segment)
    most = _of_segment(numbers, "volume_high_ml", finding.segment)
    if not finding_it or most is None:
        return ""
    return (
        f"Together they do not find {label}; {finding_it:.0f} of them, each alone, do, up to "
        f"{most:.1f} mL. "
    )


def _of_segment(numbers: ModelNumbers | None, name: str, segment: int) -> float | None:
    return None if numbers is None else numbers.of_segments.get(name, {}).get(segment)
