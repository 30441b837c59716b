"""Splitting a series that holds several volumes: 4D, multi-echo, magnitude and phase, stacks.

Volumes are told apart by the attributes that differ at every position (`telling`), and by nothing
else with one exception: a complete time series that tells its images apart by InstanceNumber alone,
as GE's do, is split by it, because its numbers run through the volumes one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from models.manifest.attributes import SELECTOR_ATTRIBUTES, AttributeKind
from services.common.fates import Refusal
from services.common.headers import AttributeValue, InstanceHeader
from services.imaging.frames import frame_of
from services.imaging.header_checks import PlacedImage, place_images
from services.imaging.stack import (
    build_stack,
    check_orientations,
    holds_several_volumes,
    places_of,
)
from services.imaging.telling import is_one_number, telling_attributes, values_of

# Fewer positions that occur twice are slices that were sent again.
_FEWEST_OF_A_VOLUME = 2


@dataclass(frozen=True, slots=True)
class SourceVolume:
    """The images of one volume of a series.

    Attributes:
        images: headers of single planes, in no order.
        attributes: what a selector is asked about this volume: what all its images say alike, and
            their number as NumberOfInstances. What differs within it, or is absent, is not here,
            whatever the series' other images say.
        positions: how many the series has; a volume with fewer images is not whole.
        varying: of attributes that differ within the volume, all values; None for images that
            lack the attribute.
    """

    images: tuple[InstanceHeader, ...]
    attributes: Mapping[str, AttributeValue]
    positions: int
    varying: Mapping[str, tuple[AttributeValue, ...]] = field(
        default_factory=dict[str, tuple[AttributeValue, ...]]
    )

    @property
    def whole(self) -> bool:
        """Whether the volume has an image wherever another volume of the series has one."""
        return len(self.images) == self.positions


@dataclass(frozen=True, slots=True)
class SplitSeries:
    """The volumes of a series, in the order of their image numbers.

    Attributes:
        told_by: keywords of the attributes that tell the volumes apart; empty for a single volume.
    """

    volumes: tuple[SourceVolume, ...]
    told_by: tuple[str, ...] = ()


def split_volumes(images: Sequence[InstanceHeader]) -> SplitSeries:
    """Tells the volumes of a series apart.

    A series that cannot be split, because the series is faulty or because nothing tells its
    volumes apart, stays in one piece: the gate then says what is wrong.

    Args:
        images: headers of single planes, as `open_images` gives them.
    """
    stacks = _by(images, ("StackID",))
    if len(stacks) == 1:
        return _split_stack(images)
    parts = [_split_stack(stack) for stack in stacks]
    volumes = tuple(volume for part in parts for volume in part.volumes)
    within = sorted({keyword for part in parts for keyword in part.told_by})
    return SplitSeries(volumes, ("StackID", *within))


def _split_stack(images: Sequence[InstanceHeader]) -> SplitSeries:
    whole = SplitSeries((_volume(images, (), len(images)),))
    placed = place_images(images)
    if isinstance(placed, Refusal) or check_orientations(placed) is not None:
        return whole
    places = places_of(build_stack(placed))
    several = holds_several_volumes(places)
    # Of a second volume most slices may be lost: what tells its images apart shows it.
    repeated = sum(len(place) > 1 for place in places)
    if not several and repeated < _FEWEST_OF_A_VOLUME:
        return whole
    keywords = telling_attributes(places)
    if not several and not keywords:
        return whole
    if keywords:
        groups: dict[tuple[str, ...], list[InstanceHeader]] = {}
        for image in placed:
            groups.setdefault(values_of(image, keywords), []).append(image.header)
        parts = sorted(groups.values(), key=_number_of_first)
    else:
        keywords, parts = ("InstanceNumber",), _by_instance_number(places)
    if len(parts) < 2:
        return whole
    volumes = tuple(_volume(part, keywords, len(places)) for part in parts)
    return SplitSeries(volumes, tuple(keywords))


def _by(images: Sequence[InstanceHeader], keywords: Sequence[str]) -> list[list[InstanceHeader]]:
    groups: dict[tuple[str | None, ...], list[InstanceHeader]] = {}
    for image in images:
        groups.setdefault(tuple(map(image.text, keywords)), []).append(image)
    return sorted(groups.values(), key=_number_of_first)


def _number_of_first(images: Sequence[InstanceHeader]) -> tuple[float, int, str]:
    return min((_number(image), frame_of(image) or 0, image.sop_instance_uid) for image in images)


def _number(image: InstanceHeader) -> float:
    numbers = image.numbers("InstanceNumber")
    return numbers[0] if numbers and math.isfinite(numbers[0]) else math.inf


def _by_instance_number(places: Sequence[Sequence[PlacedImage]]) -> list[list[InstanceHeader]]:
    """The n-th image at every place, where numbers run through volumes or through places.

    Only a complete series of single images is split so: with an image missing, the n-th at one
    place need not be of the same volume as the n-th at another.
    """
    count = len(places[0])
    numbers = [_number(image.header) for place in places for image in place]
    if (
        any(len(place) != count for place in places)
        or any(frame_of(image.header) for place in places for image in place)
        or len(set(numbers)) < len(numbers)
        or math.inf in numbers
    ):
        return []
    ordered = [sorted((image.header for image in place), key=_number) for place in places]
    volumes = [list(volume) for volume in zip(*ordered, strict=True)]
    through_volumes = _one_after_the_other(volumes)
    through_places = _one_after_the_other(sorted(ordered, key=_number_of_first))
    same_order = len({_order_of_places(volume) for volume in volumes}) == 1
    return volumes if same_order and (through_volumes or through_places) else []


def _order_of_places(volume: Sequence[InstanceHeader]) -> tuple[int, ...]:
    return tuple(sorted(range(len(volume)), key=lambda place: _number(volume[place])))


def _one_after_the_other(groups: Sequence[Sequence[InstanceHeader]]) -> bool:
    return all(
        max(map(_number, before)) < min(map(_number, after)) for before, after in pairwise(groups)
    )


def _volume(
    images: Sequence[InstanceHeader], keywords: Sequence[str], positions: int
) -> SourceVolume:
    attributes: dict[str, AttributeValue] = {}
    varying: dict[str, tuple[AttributeValue, ...]] = {}
    for keyword in {**dict.fromkeys(keywords), **SELECTOR_ATTRIBUTES}:
        values = _distinct([image.attributes.get(keyword) for image in images])
        common = _common(keyword, values)
        if common is not None:
            attributes[keyword] = common
        elif len(values) > 1:
            varying[keyword] = tuple(values)
    attributes["NumberOfInstances"] = str(len(images))
    return SourceVolume(tuple(images), attributes, positions, varying)


def _distinct(values: Sequence[AttributeValue]) -> list[AttributeValue]:
    """The different ones in an order that does not depend on theirs; empty ones count as absent."""
    different = {str(value): value for value in (value or None for value in values)}
    return [different[text] for text in sorted(different)]


def _common(keyword: str, values: Sequence[AttributeValue]) -> AttributeValue:
    """The one value, or of numbers that differ by rounding the smallest; None where there is none.

    Decimal strings of one acquisition differ in their last digits.
    """
    if len(values) == 1:
        return values[0]
    if SELECTOR_ATTRIBUTES.get(keyword) is not AttributeKind.NUMBER or None in values:
        return None
    try:
        numbers = [float(value) for value in values if isinstance(value, str)]
    except ValueError:
        return None
    if len(numbers) < len(values) or not all(map(math.isfinite, numbers)):
        return None
    smallest = min(numbers)
    return values[numbers.index(smallest)] if is_one_number(keyword, numbers) else None
