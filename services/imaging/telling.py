"""What tells the volumes of one series apart: echoes, components, time points, weightings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from services.imaging.header_checks import PlacedImage

# The most telling first. Single attributes are tried before pairs.
TELLING = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
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
NOTHING_TELLING = "nothing but InstanceNumber"

Places = Sequence[Sequence[PlacedImage]]


def telling_attributes(places: Places) -> tuple[str, ...]:
    """The attribute, or the two, by whose values the volumes are told apart; empty without any.

    Args:
        places: the images at each position.
    """
    volumes = max(map(len, places))
    singles = [(keyword,) for keyword in TELLING]
    for keywords in [*singles, *combinations(TELLING, 2), *_LAST_RESORTS]:
        if _tells_apart(places, volumes, keywords):
            return keywords
    return ()


def values_of(image: PlacedImage, keywords: Sequence[str]) -> tuple[str, ...]:
    """The values of `keywords` as one comparable key."""
    return tuple(str(image.header.attributes.get(keyword)) for keyword in keywords)


def _tells_apart(places: Places, volumes: int, keywords: tuple[str, ...]) -> bool:
    everywhere: set[tuple[str, ...]] = set()
    for place in places:
        here = {values_of(image, keywords) for image in place}
        if len(here) < len(place):
            return False
        everywhere |= here
    return len(everywhere) == volumes
