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

from services.common.headers import InstanceHeader
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.csa import CSAError, read_csa
from services.imaging.frames import FrameHeader, UnplacedFrames
from services.imaging.tiles import MOST_SLICES, numbers_of, tile_size, tiles_of

_CSA_GROUP = 0x0029
_CSA_CREATOR = "SIEMENS CSA HEADER"
_CSA_IMAGE_INFO = 0x10
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
    per_side = math.ceil(math.sqrt(slices))
    size = tile_size(header, per_side, per_side, slices)
    first, step = _line(header, csa.get("SliceNormalVector", ()), *size)
    return tiles_of(header, per_side, size, [first + number * step for number in range(slices)])


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
    if not values or not values[0].isdecimal() or not 0 < int(values[0]) <= MOST_SLICES:
        raise UnplacedFrames("the CSA header does not tell the number of slices")
    return int(values[0])


def _line(
    header: InstanceHeader,
    normal_values: tuple[str, ...],
    tile_rows: int,
    tile_columns: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of the first slice and step to the next one, float64 [3] each, LPS mm."""
    orientation = np.array(numbers_of(header, "ImageOrientationPatient", 6))
    between_rows, between_columns = numbers_of(header, "PixelSpacing", 2)
    rows, columns = numbers_of(header, "Rows", 1)[0], numbers_of(header, "Columns", 1)[0]
    # Directions, whatever length their rounding left them.
    lengths = np.linalg.norm(orientation.reshape(2, 3), axis=1)
    if not lengths.all():
        raise UnplacedFrames("the direction of its rows and columns is absent or unreadable")
    along_row, along_column = orientation.reshape(2, 3) / lengths[:, None]
    # The mosaic's first voxel to the slice's: both have one centre.
    first = (
        np.array(numbers_of(header, "ImagePositionPatient", 3))
        + along_row * between_columns * (columns - tile_columns) / 2
        + along_column * between_rows * (rows - tile_rows) / 2
    )
    (spacing,) = numbers_of(header, "SpacingBetweenSlices", 1)
    if spacing <= 0:
        raise UnplacedFrames("it does not tell the distance of its slices")
    normal = np.cross(along_row, along_column)
    try:
        sent_normal = np.array([float(value) for value in normal_values])
    except ValueError as error:
        raise UnplacedFrames("the slices' normal in the CSA header is no vector") from error
    if sent_normal.shape != (3,) or not abs(abs(sent_normal @ normal) - 1) <= _NORMAL_TOLERANCE:
        raise UnplacedFrames("the slices' normal in the CSA header is not that of the planes")
    direction = normal if sent_normal @ normal > 0 else -normal
    return first, direction / np.linalg.norm(direction) * spacing
