"""Planes of an image that tiles many slices, whichever vendor made it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

from services.common.headers import AttributeValue, InstanceHeader
from services.common.sentences import keyword_in_words
from services.imaging.frames import FrameHeader, Tile, UnplacedFrames

# No scanner tiles more; a damaged count must not fill the memory.
MOST_SLICES = 4096


def numbers_of(header: InstanceHeader, keyword: str, count: int) -> tuple[float, ...]:
    """The attribute's numbers.

    Raises:
        UnplacedFrames: there are not `count` numbers, or not all are finite.
    """
    numbers = header.numbers(keyword)
    if numbers is None or len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UnplacedFrames(f"{keyword_in_words(keyword)} is absent or unreadable")
    return numbers


def tile_size(
    header: InstanceHeader, per_row: int, per_column: int, slices: int
) -> tuple[int, int]:
    """Rows and columns of a tile.

    Raises:
        UnplacedFrames: the matrix does not consist of so many whole tiles.
    """
    rows, columns = (int(numbers_of(header, name, 1)[0]) for name in ("Rows", "Columns"))
    if rows % per_column or columns % per_row or not rows or not columns:
        raise UnplacedFrames(f"{slices} slices do not tile an image of {columns} x {rows} pixels")
    return rows // per_column, columns // per_row


def tiles_of(
    header: InstanceHeader,
    per_row: int,
    size: tuple[int, int],
    positions: Sequence[NDArray[np.float64]],
) -> list[FrameHeader]:
    """A header for each tile, row by row.

    Args:
        per_row: tiles side by side.
        size: rows and columns of a tile.
        positions: float64 [3] each, LPS mm, of each slice's first voxel.
    """
    rows, columns = (int(numbers_of(header, name, 1)[0]) for name in ("Rows", "Columns"))
    return [
        _tile(
            header,
            number,
            Tile(number // per_row * size[0], number % per_row * size[1], rows, columns),
            position,
            size,
        )
        for number, position in enumerate(positions)
    ]


def _tile(
    header: InstanceHeader,
    number: int,
    tile: Tile,
    position: NDArray[np.float64],
    size: tuple[int, int],
) -> FrameHeader:
    own: dict[str, AttributeValue] = {
        "ImagePositionPatient": [format_number_as_ds(x) for x in position.tolist()],
        "Rows": str(size[0]),
        "Columns": str(size[1]),
        # Tells mosaics apart where their attributes do not.
        "SOPInstanceUID": header.sop_instance_uid,
    }
    return FrameHeader(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes={**header.attributes, **own},
        pixel_offset=header.pixel_offset,
        pixel_length=header.pixel_length,
        has_pixels=header.has_pixels,
        frame=number + 1,
        tile=tile,
    )
