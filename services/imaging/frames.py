"""Images of a series as the gate sees them: one plane each, also where a file holds many.

A classic instance is one image, and its kept header says all. An enhanced multi-frame object and
a mosaic (Siemens, United Imaging) hold many images; where each lies is told in functional groups
and in private attributes, which are read from the stored file. `opening.open_images` makes of each
such plane a `FrameHeader`: the kept header with the attributes that a classic image of it would
have. All that follows (splitting, the gate, loading, reporting) treats the three kinds alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.headers import AttributeValue, InstanceHeader

Locate = Callable[[InstanceHeader], Path]

# SOP classes of enhanced and legacy converted multi-frame images (PS3.4 B.5).
ENHANCED_MULTIFRAME = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
        "1.2.840.10008.5.1.4.1.1.130",  # Enhanced PET
        "1.2.840.10008.5.1.4.1.1.128.1",  # Legacy Converted Enhanced PET
    }
)


# Siemens' and United Imaging's.
TILINGS = frozenset({"MOSAIC", "VFRAME"})


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a plane lies in the matrix of a mosaic.

    Attributes:
        top, left: row and column of its first pixel.
        matrix_rows, matrix_columns: size of the whole matrix as stored.
    """

    top: int
    left: int
    matrix_rows: int
    matrix_columns: int


@dataclass(frozen=True, slots=True)
class FrameHeader(InstanceHeader):
    """One plane of an object that holds many planes.

    `attributes` are those of the instance, overlaid with the frame's own under the keywords that
    a classic image has for them. `pixel_offset` and `pixel_length` are the frame's where its
    pixels are stored as they are, else the object's.

    Attributes:
        frame: the frame's number, or the tile's, from 1.
        tile: where the plane lies in a mosaic; None for a frame.
    """

    frame: int = 1
    tile: Tile | None = None


class UnplacedFrames(Exception):
    """The planes of an object cannot be told apart; the message says why, for a refusal."""


def frame_of(header: InstanceHeader) -> int | None:
    """The number of a plane within its instance; None where the instance is one plane."""
    return header.frame if isinstance(header, FrameHeader) else None


def whole_attributes(header: InstanceHeader) -> Mapping[str, AttributeValue]:
    """The attributes that tell the size of the whole object that a plane lies in."""
    if not isinstance(header, FrameHeader) or header.tile is None:
        return header.attributes
    matrix = {
        "Rows": str(header.tile.matrix_rows),
        "Columns": str(header.tile.matrix_columns),
    }
    return {**header.attributes, **matrix}


def tiling_of(header: InstanceHeader) -> str | None:
    """The value of ImageType by which a vendor says that the image tiles many slices.

    None where the image has no such value, or was opened already.
    """
    found = [kind for kind in header.codes("ImageType") if kind in TILINGS]
    return found[0] if found and not isinstance(header, FrameHeader) else None


def is_multiframe(header: InstanceHeader) -> bool:
    """Whether the object is of an enhanced class, or has several frames."""
    if isinstance(header, FrameHeader):
        return False
    frames = header.numbers("NumberOfFrames") or (1.0,)
    return header.sop_class_uid in ENHANCED_MULTIFRAME or frames[0] > 1
