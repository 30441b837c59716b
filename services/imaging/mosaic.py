"""Siemens mosaic: one image that tiles all slices of a volume.

Slices lie row by row in the smallest square of tiles that holds them. ImagePositionPatient is that
of a slice as large as the whole matrix would be, about the same centre; the slices' normal, which
may run against that of PS3.3 C.7.6.2.1.1, is told in the CSA header (0029,xx10) only.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from services.common.headers import AttributeValue, InstanceHeader
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.csa import CSAError, read_csa
from services.imaging.frames import FrameHeader, Tile, UnplacedFrames

_CSA_GROUP = 0x0029
_CSA_CREATOR = "SIEMENS CSA HEADER"
_CSA_IMAGE_INFO = 0x10
# No scanner tiles more; a damaged count must not fill the memory.
_MOST_SLICES = 4096
# The normal is written with eight decimals; it has to be that of the planes, one way or the other.
_NORMAL_TOLERANCE = 1e-3


def read_tiles(header: InstanceHeader, file: Path) -> list[FrameHeader]:
    """The slices of a mosaic, each with its true position, in the order of the tiles.

    Raises:
        UnplacedFrames: the CSA header is absent or damaged, or does not fit the image.
        FileNotFoundError: the instance's file is not there.
    """
    try:
        dataset = read_head(file, header.transfer_syntax_uid, bound_of(header.attributes))
        csa = read_csa(_csa_image_info(dataset))
    except CSAError as error:
        raise UnplacedFrames("the CSA header is absent or damaged") from error
    except StoredObjectError as error:
        raise UnplacedFrames(str(error)) from error
    slices = _slices(csa.get("NumberOfImagesInMosaic", ()))
    tiles_per_side = math.ceil(math.sqrt(slices))
    rows, columns = (_number(header, name, 1)[0] for name in ("Rows", "Columns"))
    if rows % tiles_per_side or columns % tiles_per_side:
        raise UnplacedFrames(
            f"{slices} slices do not tile an image of {columns:g} x {rows:g} pixels"
        )
    tile_rows, tile_columns = int(rows) // tiles_per_side, int(columns) // tiles_per_side
    first, step = _line(header, csa.get("SliceNormalVector", ()), tile_rows, tile_columns)
    return [
        _tile(
            header,
            number,
            Tile(
                number // tiles_per_side * tile_rows,
                number % tiles_per_side * tile_columns,
                int(rows),
                int(columns),
            ),
            first + number * step,
            (tile_rows, tile_columns),
        )
        for number in range(slices)
    ]


def _csa_image_info(dataset: Dataset) -> bytes:
    try:
        block = dataset.private_block(_CSA_GROUP, _CSA_CREATOR)
        value = block[_CSA_IMAGE_INFO].value
    except KeyError as error:
        raise CSAError("There is no CSA header.") from error
    if not isinstance(value, bytes):
        raise CSAError("The CSA header is no block of bytes.")
    return value


def _slices(values: tuple[str, ...]) -> int:
    if not values or not values[0].isdecimal() or not 0 < int(values[0]) <= _MOST_SLICES:
        raise UnplacedFrames("the CSA header does not tell the number of slices")
    return int(values[0])


def _line(
    header: InstanceHeader,
    normal_values: tuple[str, ...],
    tile_rows: int,
    tile_columns: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of the first slice and step to the next one, float64 [3] each, LPS mm."""
    orientation = np.array(_number(header, "ImageOrientationPatient", 6))
    between_rows, between_columns = _number(header, "PixelSpacing", 2)
    rows, columns = _number(header, "Rows", 1)[0], _number(header, "Columns", 1)[0]
    # Directions, whatever length their rounding left them.
    lengths = np.linalg.norm(orientation.reshape(2, 3), axis=1)
    if not lengths.all():
        raise UnplacedFrames("ImageOrientationPatient is absent or unreadable")
    along_row, along_column = orientation.reshape(2, 3) / lengths[:, None]
    # The mosaic's first voxel to the slice's: both have one centre.
    first = (
        np.array(_number(header, "ImagePositionPatient", 3))
        + along_row * between_columns * (columns - tile_columns) / 2
        + along_column * between_rows * (rows - tile_rows) / 2
    )
    (spacing,) = _number(header, "SpacingBetweenSlices", 1)
    if spacing <= 0:
        raise UnplacedFrames("it does not tell the distance of its slices")
    normal = np.cross(along_row, along_column)
    try:
        told = np.array([float(value) for value in normal_values])
    except ValueError as error:
        raise UnplacedFrames("the slices' normal in the CSA header is no vector") from error
    if told.shape != (3,) or not abs(abs(told @ normal) - 1) <= _NORMAL_TOLERANCE:
        raise UnplacedFrames("the slices' normal in the CSA header is not that of the planes")
    direction = normal if told @ normal > 0 else -normal
    return first, direction / np.linalg.norm(direction) * spacing


def _number(header: InstanceHeader, keyword: str, count: int) -> tuple[float, ...]:
    numbers = header.numbers(keyword)
    if numbers is None or len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UnplacedFrames(f"{keyword} is absent or unreadable")
    return numbers


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
