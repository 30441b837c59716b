"""The first half of the geometry gate: what kind of images are these, and is their place told?

Each check looks at the kept headers alone. `PlacedImage` is what the second half (`stack`) works
on: an image whose place in the patient is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.imaging.frames import is_multiframe, tiling_of
from services.imaging.kinds import (
    calls_itself_localizer,
    image_number,
    numbers_of,
    odd_ones,
    which,
)
from services.imaging.transfer_syntaxes import readable_transfer_syntaxes, transfer_syntax_name

# Direction cosines are decimal strings; senders that round them to three decimals are off by
# 5e-4 in each of six numbers. More than twice that is no pair of unit vectors at right angles
# (PS3.3 C.7.6.2.1.1) but a mistake.
_ORTHONORMAL_TOLERANCE = 2e-3

_NOT_OPENED = "only its kept header was looked at"
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image and its place in the patient.

    Attributes:
        position: float64 [3], LPS mm, of the first voxel's centre (PS3.3 C.7.6.2.1.1).
        row_cosines, column_cosines: float64 [3], as sent.
        pixel_spacing_mm: (between rows, between columns).
    """

    header: InstanceHeader
    position: NDArray[np.float64]
    row_cosines: NDArray[np.float64]
    column_cosines: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]
    rows: int
    columns: int

    @property
    def number(self) -> str:
        """`image_number` of its header."""
        return image_number(self.header)


def is_localizer(headers: Sequence[InstanceHeader]) -> bool:
    """Whether all images call themselves localizers: ImageType value 3 (PS3.3 C.7.6.1.1.2)."""
    return bool(headers) and all(map(calls_itself_localizer, headers))


def check_localizer(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``localizer``, also for one image or three that cross."""
    return Refusal("localizer") if is_localizer(headers) else None


def check_multiframe(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``enhanced_multiframe``: an object of many frames that was not opened."""
    if any(is_multiframe(header) for header in headers):
        return Refusal("enhanced_multiframe", {"problem": _NOT_OPENED})
    return None


def check_mosaic(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``mosaic``: an image of many slices that was not opened."""
    if any(map(tiling_of, headers)):
        return Refusal("mosaic", {"problem": _NOT_OPENED})
    return None


def check_colour(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``colour_image`` (PS3.3 C.7.6.3.1.2)."""
    kinds = [_colour(header) for header in headers]
    for photometric in kinds:
        if photometric is not None:
            odd = odd_ones(headers, kinds)
            return Refusal("colour_image", {"photometric": photometric, "odd": odd})
    return None


def check_modality_lut(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``modality_lut`` (PS3.3 C.11.1): stored values mean what a table says."""
    by_table = ["ModalityLUTSequence" in header.attributes for header in headers]
    values = {"images": sum(by_table), "odd": which(headers, by_table)}
    return Refusal("modality_lut", values) if any(by_table) else None


def check_reversed_rows(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``reversed_rows``: volumes of GE's pepolar sequence that are stored upside down.

    The sequence's name is in (0019,109C); (0019,10B3) tells which volumes were acquired with the
    other polarity, whose rows run against ImageOrientationPatient: 1 all, 2 and 3 every second
    volume (as dcm2niix found, which turns them).
    """
    turned = [
        header.text("(0019,0010)") == "GEMS_ACQU_01"
        and "epi_pepolar" in (header.text("(0019,109C)") or "")
        and (header.numbers("(0019,10B3)") or (0.0,))[0] in (1.0, 2.0, 3.0)
        for header in headers
    ]
    values = {"images": sum(turned), "odd": which(headers, turned)}
    return Refusal("reversed_rows", values) if any(turned) else None


def check_transfer_syntax(headers: Sequence[InstanceHeader]) -> Refusal | None:
    """Reason ``transfer_syntax_unreadable``."""
    for header in headers:
        if header.transfer_syntax_uid not in readable_transfer_syntaxes():
            name = transfer_syntax_name(header.transfer_syntax_uid)
            odd = odd_ones(headers, [each.transfer_syntax_uid for each in headers])
            return Refusal("transfer_syntax_unreadable", {"syntax": name, "odd": odd})
    return None


def place_images(headers: Sequence[InstanceHeader]) -> list[PlacedImage] | Refusal:
    """Every image with its place, or ``missing_geometry`` for those without one."""
    places = [_place(header) for header in headers]
    lacking = {n: place for n, place in enumerate(places) if isinstance(place, str)}
    if not lacking:
        return [place for place in places if not isinstance(place, str)]
    first, *others = lacking
    odd = _nor_do([headers[n] for n in others], headers)
    values = {"instance": image_number(headers[first]), "attribute": lacking[first], "odd": odd}
    return Refusal("missing_geometry", values)


def _nor_do(others: Sequence[InstanceHeader], headers: Sequence[InstanceHeader]) -> str:
    """Words for the images, besides the one that was named, that tell no place either."""
    if not others:
        return ""
    if len(others) == len(headers) - 1:
        return "; nor does any other image of the series"
    one = len(others) == 1
    return f"; nor {'does image' if one else 'do images'} {numbers_of(others)}"


def _colour(header: InstanceHeader) -> str | None:
    """The colour space of an image that is none of grey values."""
    (photometric, *_) = header.codes("PhotometricInterpretation") or ("MONOCHROME2",)
    samples = header.numbers("SamplesPerPixel") or (1.0,)
    return photometric if photometric not in _GREY or samples[0] != 1 else None


def _place(header: InstanceHeader) -> PlacedImage | str:
    # Returns the attribute's name when it is absent or has no meaning.
    position = _finite(header, "ImagePositionPatient", 3)
    if position is None:
        return "ImagePositionPatient"
    orientation = _finite(header, "ImageOrientationPatient", 6)
    if orientation is None or not _orthonormal(orientation):
        return "ImageOrientationPatient"
    spacing = _finite(header, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return "PixelSpacing"
    rows, columns = _finite(header, "Rows", 1), _finite(header, "Columns", 1)
    if rows is None or rows[0] < 1:
        return "Rows"
    if columns is None or columns[0] < 1:
        return "Columns"
    return PlacedImage(
        header=header,
        position=np.array(position),
        row_cosines=np.array(orientation[:3]),
        column_cosines=np.array(orientation[3:]),
        pixel_spacing_mm=(spacing[0], spacing[1]),
        rows=int(rows[0]),
        columns=int(columns[0]),
    )


def _finite(header: InstanceHeader, keyword: str, count: int) -> tuple[float, ...] | None:
    numbers = header.numbers(keyword)
    if numbers is None or len(numbers) != count or not all(map(math.isfinite, numbers)):
        return None
    return numbers


def _orthonormal(orientation: tuple[float, ...]) -> bool:
    row, column = orientation[:3], orientation[3:]
    products = (
        _dot(row, row) - 1,
        _dot(column, column) - 1,
        _dot(row, column),
    )
    return max(map(abs, products)) <= _ORTHONORMAL_TOLERANCE


def _dot(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
