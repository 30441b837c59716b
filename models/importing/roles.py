"""What a channel's name says of the series that a model wants: a first selector, to be reviewed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from models.importing.errors import NotImportableError

__all__ = ["Wanted", "role_of", "wanted_by"]

# Names of channels that say a modality, in small letters; nnU-Net's own words for a normalisation
# (zscore, noNorm, rescale_to_0_1) say none.
_MODALITIES: Final = {
    "ct": "CT",
    "cta": "CT",
    "cbct": "CT",
    "mr": "MR",
    "mri": "MR",
    "mra": "MR",
    "us": "US",
}
# Of MR, names that say a contrast, and words that a series of it is called by.
_CONTRASTS: Final = (
    (r"^(t1|t1w|t1n|t1_?pre)$", r"\bt1|mprage|bravo|\btfl\b"),
    (r"^(t1ce|t1c|t1gd|t1_?post|t1_?gad)$", r"\bt1"),
    (r"^(t2|t2w|t2_?tse)$", r"\bt2"),
    (r"^(flair|t2f|t2_?flair)$", r"flair|dark fluid"),
    (r"^adc$", r"\badc|apparent diff"),
    (r"^(dwi|trace|hbv)$", r"\bdwi|trace|diff"),
)
_MR: Final = "MR"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel's series: its name, the modality, and words of its description, if any is known."""

    channel: str
    modality: str
    words: str = ""

    @property
    def title(self) -> str:
        """What people call the series."""
        same = self.channel.casefold() == self.modality.casefold()
        return self.modality if same else f"{self.modality} ({self.channel})"


def wanted_by(channel: str, modality: str) -> Wanted:
    """Return what a channel's name says.

    Args:
        channel: its name in dataset.json.
        modality: the DICOM modality, by a person; empty: the name is to say it.

    Raises:
        NotImportableError: neither says a modality.
    """
    name = channel.strip().casefold()
    words = next((words for names, words in _CONTRASTS if re.match(names, name)), "")
    found = modality or _MODALITIES.get(name, _MR if words else "")
    if not found:
        raise NotImportableError(
            f"The channel is called {channel}, which says no modality. Say with "
            "--modality which series the model wants: CT, MR and so on."
        )
    return Wanted(channel, found.upper(), words if found.upper() == _MR else "")


def role_of(wanted: Wanted, coarsest_mm: float, planes: bool) -> dict[str, Any]:
    """Return a role that takes a channel's series.

    Args:
        wanted: what the channel's name says.
        coarsest_mm: the largest median spacing of the training cases.
        planes: the network looks at single slices, so that a scan may have one.
    """
    selector: list[dict[str, Any]] = [
        {
            "attribute": "Modality",
            "any_of": [wanted.modality],
            "why": f"the networks were trained on {wanted.channel}",
        },
        {
            "attribute": "ImageType",
            "none_of": ["LOCALIZER", "PROJECTION IMAGE", "MPR", "MIP", "MINIP"],
            "why": "it needs the slices themselves",
        },
    ]
    if wanted.words:
        selector.append(
            {
                "attribute": "SeriesDescription",
                "words_match": wanted.words,
                "wants": f"a name that says {wanted.channel}",
                "why": f"the networks were trained on {wanted.channel} alone",
            }
        )
    return {
        "title": wanted.title,
        "choose": "best",
        "selector": selector,
        "prefer": [
            {
                "attribute": "NumberOfInstances",
                "order": "highest",
                "why": "more slices resolve more",
            }
        ],
        "gate": {
            "min_slices": 1 if planes else 2,
            # Three times as coarse as what was trained on is another kind of scan.
            "spacing_mm": {"max": round(3.0 * coarsest_mm, 2)},
        },
    }
