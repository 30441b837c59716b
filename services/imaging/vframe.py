"""United Imaging's VFRAME: one image that tiles all slices of a volume.

Slices lie row by row, in as many columns of tiles as make a square or leave rows out. Private
(0065,1050) is their number; each item of (0065,1051) holds a slice's own ImagePositionPatient, in
the order of the tiles (as dcm2niix reads them too).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence

from services.common.headers import InstanceHeader
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.frames import FrameHeader, UnplacedFrames
from services.imaging.tiles import MOST_SLICES, tile_size, tiles_of

_GROUP, _CREATOR = 0x0065, "Image Private Header"
_COUNT, _SLICES = 0x50, 0x51


def read_vframe(header: InstanceHeader, file: Path) -> list[FrameHeader]:
    """The slices of a VFRAME image, each with its own position, in the order of the tiles.

    Raises:
        UnplacedFrames: the private attributes are absent or damaged, or do not fit the image.
        FileNotFoundError: the instance's file is not there.
    """
    try:
        dataset = read_head(file, header.transfer_syntax_uid, bound_of(header.attributes))
    except StoredObjectError as error:
        raise UnplacedFrames(str(error)) from error
    positions = _positions(dataset)
    per_row = math.ceil(math.sqrt(len(positions)))
    per_column = math.ceil(len(positions) / per_row)
    size = tile_size(header, per_row, per_column, len(positions))
    return tiles_of(header, per_row, size, positions)


def _positions(dataset: Dataset) -> list[NDArray[np.float64]]:
    try:
        block = dataset.private_block(_GROUP, _CREATOR)
        count = int(float(_text(block[_COUNT].value)))
        positions = [
            np.array(item.ImagePositionPatient, np.float64) for item in _items(block[_SLICES].value)
        ]
    except Exception as error:  # absent, of another form, or damaged: pydicom raises what it meets
        raise UnplacedFrames("the slices' positions (0065,1051) are absent or damaged") from error
    if not 0 < len(positions) <= MOST_SLICES or len(positions) != count:
        raise UnplacedFrames(f"it has {count} slices, but positions of {len(positions)}")
    if any(each.shape != (3,) or not np.isfinite(each).all() for each in positions):
        raise UnplacedFrames("the slices' positions (0065,1051) are absent or damaged")
    return positions


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _items(value: Any) -> Sequence[Dataset]:
    """The items, also where a transfer without VRs left their bytes (PS3.5 6.2.2, UN)."""
    if not isinstance(value, bytes):
        return value
    return read_sequence(BytesIO(value), True, True, len(value), "iso8859", 0)
