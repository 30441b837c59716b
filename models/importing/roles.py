"""What a channel's name says of the series that a model wants: a first selector, to be reviewed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.importing.errors import NotImportableError

__all__ = ["Wanted", "role_of", "roles_of", "wanted_by"]

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
    "pet": "PT",
    "pt": "PT",
}
_AGENT: Final = r"\bt1 ?ce?\b|\bt1gd|\bgd\b|\bpost|\bgad|contrast|\bce\b"
_FLAIR: Final = r"flair|dark fluid"


@dataclass(frozen=True, slots=True)
class _Contrast:
    """Names of a channel of MR, and what a series of it is called by.

    Attributes:
        names: in small letters.
        words: one of them is in its description.
        also: and one of these, where several contrasts are told apart.
        not_words: and none of these, there.
    """

    names: str
    words: str
    also: str = ""
    not_words: str = ""


_CONTRASTS: Final = (
    _Contrast(
        r"^(t1|t1w|t1n|t1_?pre)$", r"\bt1|mprage|bravo|\btfl\b", not_words=f"{_AGENT}|{_FLAIR}"
    ),
    _Contrast(r"^(t1ce|t1c|t1gd|t1_?post|t1_?gad)$", r"\bt1", also=_AGENT, not_words=_FLAIR),
    _Contrast(r"^(t2|t2w|t2_?tse)$", r"\bt2", not_words=rf"{_FLAIR}|star|\bt2s"),
    _Contrast(r"^(flair|t2f|t2_?flair)$", _FLAIR),
    _Contrast(r"^adc$", r"\badc|apparent diff"),
    _Contrast(r"^(dwi|trace|hbv)$", r"\bdwi|trace|diff", not_words=r"\badc|apparent"),
)
_MR: Final = "MR"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel's series.

    Attributes:
        channel: its name.
        modality: in DICOM's words.
        words: of its description, if any is known.
        also, not_words: further ones, by which several contrasts are told apart.
    """

    channel: str
    modality: str
    words: str = ""
    also: str = ""
    not_words: str = ""

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
    known = next((one for one in _CONTRASTS if re.match(one.names, name)), None)
    found = modality or _MODALITIES.get(name, "" if known is None else _MR)
    if not found:
        raise NotImportableError(
            f"The channel is called {channel}, which says no modality. Say with "
            "--modality which series the model wants: CT, MR and so on."
        )
    if known is None or found.upper() != _MR:
        return Wanted(channel, found.upper())
    return Wanted(channel, _MR, known.words, known.also, known.not_words)


def roles_of(
    channels: Sequence[str], modality: str, coarsest_mm: float, planes: bool
) -> dict[str, dict[str, Any]]:
    """Return the roles of a network's channels, in their order.

    One channel is the role `image`. Of several each is called as its channel; the others lie to
    the first by their frame of reference.

    Args:
        channels: their names.
        modality: the DICOM modality, by a person; empty: the names are to say it.
        coarsest_mm, planes: as for `role_of`.

    Raises:
        NotImportableError: a name says no modality, or two cannot be told apart.
    """
    wanted = [wanted_by(channel, modality) for channel in channels]
    if len(wanted) == 1:
        return {"image": role_of(wanted[0], coarsest_mm, planes)}
    names = [_role_name(one.channel) for one in wanted]
    kinds = [(one.modality, one.words, one.also) for one in wanted]
    if len(set(kinds)) != len(kinds) or len(set(names)) != len(names):
        raise NotImportableError(
            f"Nothing tells which series is which of the channels {', '.join(channels)}. Call them "
            "in dataset.json by their contrast, as T1, T1ce, T2, FLAIR, ADC and DWI, or by their "
            "modality, as CT and PET."
        )
    roles = {
        name: role_of(one, coarsest_mm, planes, apart=True)
        for name, one in zip(names, wanted, strict=True)
    }
    first, *others = names
    roles[first] = {"title": roles[first].pop("title"), "use": "grid", **roles[first]}
    align = {"to": first, "by": "same-frame"}
    for name in others:
        title = roles[name].pop("title")
        roles[name] = {"title": title, "use": "aligned", "align": align, **roles[name]}
    return roles


def _role_name(channel: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", channel.casefold()).strip("-")


def role_of(
    wanted: Wanted, coarsest_mm: float, planes: bool, *, apart: bool = False
) -> dict[str, Any]:
    """Return a role that takes a channel's series.

    Args:
        wanted: what the channel's name says.
        coarsest_mm: the largest median spacing of the training cases.
        planes: the network looks at single slices, so that a scan may have one.
        apart: other roles take series of other contrasts.
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
    if apart and wanted.also:
        selector.append(
            {
                "attribute": "SeriesDescription",
                "words_match": wanted.also,
                "wants": "contrast in its name",
                "why": "another channel is that without contrast",
            }
        )
    if apart and wanted.not_words:
        selector.append(
            {
                "attribute": "SeriesDescription",
                "words_do_not_match": wanted.not_words,
                "wants": f"a name that says nothing but {wanted.channel}",
                "why": "those are other contrasts",
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
