"""What tells the volumes of one series apart: echoes, components, time points, weightings."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from itertools import combinations, pairwise

from services.common.headers import codes_of
from services.imaging.header_checks import PlacedImage

# The most telling first. Single attributes are tried before pairs.
TELLING = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "ComplexImageComponent",
    "TriggerTime",
    "InversionTime",
    "ImageType",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "AcquisitionTime",
)
# Of multi-frame objects, where nothing with a meaning fits: the indices that do not count slices,
# and the object itself where there are several. Where these fail too, the images differ in
# nothing but their number.
_LAST_RESORTS = (("DimensionIndexValues",), ("SOPInstanceUID",))
NOTHING_TELLING = "nothing but their number"
# Code strings, which are compared without case.
_CODES = frozenset({"ComplexImageComponent", "ImageType"})

# What is one number within a volume, with the rounding that senders and sequences leave: (as it is,
# as a share of the larger). Echoes lie half a millisecond apart at least, b-values tens of s/mm2.
# AcquisitionNumber and AcquisitionTime are not among them: concatenations vary them.
_ONE_NUMBER = {"EchoTime": (0.1, 0.01), "DiffusionBValue": (5.0, 0.05)}
# Of other numbers: decimal strings of one value differ in their last digits.
_ROUNDING = (1e-6, 1e-3)
# Values of ImageType behind the second that name the component or the substance that is shown.
_SHOWN = {
    **dict.fromkeys(("M", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
    **dict.fromkeys(("OUT_PHASE", "OPP_PHASE"), "opposed phase"),
    **{name: name for name in ("IN_PHASE", "WATER", "FAT")},
}

Places = Sequence[Sequence[PlacedImage]]


def telling_attributes(places: Places) -> tuple[str, ...]:
    """The one or two attributes by whose values the volumes are told apart; empty without any.

    Args:
        places: the images at each position.
    """
    volumes = max(map(len, places))
    singles = [(keyword,) for keyword in TELLING]
    for keywords in [*singles, *combinations(TELLING, 2), *_LAST_RESORTS]:
        if _tells_apart(places, volumes, keywords):
            return keywords
    return ()


def disagreement(images: Sequence[PlacedImage]) -> tuple[str, list[Hashable]] | None:
    """The attribute by which images cannot be of one volume, and the kind of its value in each.

    Images that lack the attribute agree with all others: their kind is None. None where images
    agree.
    """
    kinds: dict[str, list[Hashable]] = {
        keyword: _kinds_of_number(images, keyword, absolute, share)
        for keyword, (absolute, share) in _ONE_NUMBER.items()
    }
    kinds["ComplexImageComponent"] = [
        image.header.codes("ComplexImageComponent") or None for image in images
    ]
    kinds["ImageType"] = [_shown(image) or None for image in images]
    return next((found for found in kinds.items() if len({*found[1]} - {None}) > 1), None)


def is_one_number(keyword: str, numbers: Sequence[float]) -> bool:
    """Whether numbers differ by no more than senders' and sequences' rounding."""
    absolute, share = _ONE_NUMBER.get(keyword, _ROUNDING)
    return max(numbers) - min(numbers) <= absolute + share * max(map(abs, numbers))


def values_of(image: PlacedImage, keywords: Sequence[str]) -> tuple[str, ...]:
    """The values of `keywords` as one comparable key."""
    return tuple(
        str(image.header.codes(keyword) if keyword in _CODES else value)
        for keyword in keywords
        for value in (image.header.attributes.get(keyword),)
    )


def _kinds_of_number(
    images: Sequence[PlacedImage], keyword: str, absolute: float, share: float
) -> list[Hashable]:
    """The place of each image's number among those that rounding does not explain; None without."""
    of_images = [image.header.numbers(keyword) for image in images]
    of_each = [each[0] if each and math.isfinite(each[0]) else None for each in of_images]
    numbers = sorted(number for number in of_each if number is not None)
    edges = [
        after
        for before, after in pairwise(numbers)
        if after - before > absolute + share * abs(after)
    ]
    return [None if number is None else bisect_right(edges, number) for number in of_each]


def _shown(image: PlacedImage) -> frozenset[str]:
    value = image.header.attributes.get("ImageType")
    kinds = codes_of(value[2:]) if isinstance(value, list) else ()
    return frozenset(_SHOWN[kind] for kind in kinds if kind in _SHOWN)


def _tells_apart(places: Places, volumes: int, keywords: tuple[str, ...]) -> bool:
    everywhere: set[tuple[str, ...]] = set()
    for place in places:
        here = {values_of(image, keywords) for image in place}
        if len(here) < len(place):
            return False
        everywhere |= here
    return len(everywhere) == volumes
