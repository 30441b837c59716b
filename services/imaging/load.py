"""Pixels of a series that passed the gate, as a `Volume`.

Native little endian pixels are read at the kept offset straight into one array; everything else
(compressed, big endian, deflated) goes through pydicom's decoders, slice by slice. Cost of the
native way: one read of the pixels and one pass that converts them, 0.1 s for 170 x 256 x 256.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import StudyStore, instance_key
from services.imaging.errors import ImagingError
from services.imaging.geometry import SeriesGeometry
from services.imaging.transfer_syntaxes import NATIVE_LITTLE_ENDIAN
from services.imaging.volume import Volume


class _PixelsError(Exception):
    """One image's pixels cannot be read; the message is the refusal's `problem`."""


@dataclass(frozen=True, slots=True)
class _Pixels:
    """How pixels are stored (PS3.3 C.7.6.3) and what they mean (PS3.3 C.11.1).

    Attributes:
        allocated, stored, high_bit: bits; the value lies in bits high_bit ... high_bit-stored+1.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float

    @property
    def dtype(self) -> np.dtype[np.integer]:
        kind = "i" if self.signed else "u"
        return np.dtype(f"<{kind}{self.allocated // 8}")


def load_volume(
    geometry: SeriesGeometry, headers: Sequence[InstanceHeader], store: StudyStore
) -> Volume | Refusal:
    """Reads the planes of a series in slice order and rescales them.

    Each slice has its own slope and intercept (PS3.3 C.11.1; in PET they differ). MONOCHROME1 is
    passed as stored values with rescale like MONOCHROME2: it says how to show values, not what
    they are. Pixel padding is passed as it is: the model's intensity step knows what it means.

    Args:
        geometry: what `examine_series` proved of `headers`.
        headers: the kept headers of the series, in any order.
        store: where the listener put the instances (`services.common.store.instance_key`).

    Returns:
        The volume in real-world values, or `source_missing` / `pixels_unreadable`.

    Raises:
        ImagingError: a plane of `geometry` is not among `headers`.
    """
    by_uid = {header.sop_instance_uid: header for header in headers}
    array = np.empty(geometry.shape, np.float32)
    for k, plane in enumerate(geometry.planes):
        header = by_uid.get(plane.sop_instance_uid)
        if header is None:
            raise ImagingError(f"Instance {plane.sop_instance_uid} of the geometry has no header.")
        key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
        try:
            _load_plane(store.path(key), header, array[k])
        except FileNotFoundError:
            return Refusal("source_missing", {"instance": header.sop_instance_uid})
        except (_PixelsError, OSError) as error:
            values = {"instance": header.sop_instance_uid, "problem": _problem(error)}
            return Refusal("pixels_unreadable", values)
    instances = tuple(plane.sop_instance_uid for plane in geometry.planes)
    return Volume(array, geometry.affine, instances)


def _problem(error: _PixelsError | OSError) -> str:
    # The text of an OSError would name the file, and with it three UIDs and our folders.
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


def _load_plane(file: Path, header: InstanceHeader, plane: NDArray[np.float32]) -> None:
    pixels = _pixels(header)
    if (pixels.rows, pixels.columns) != plane.shape:
        raise _PixelsError(f"{pixels.columns} x {pixels.rows} pixels")
    if header.transfer_syntax_uid in NATIVE_LITTLE_ENDIAN:
        stored = _values(_read_native(file, header, pixels), pixels)
    else:
        stored = _decode(file, pixels)
    _rescale(stored, pixels, plane)


def _pixels(header: InstanceHeader) -> _Pixels:
    allocated = _whole(header, "BitsAllocated", 16)
    stored = _whole(header, "BitsStored", allocated)
    high_bit = _whole(header, "HighBit", stored - 1)
    if allocated not in (8, 16, 32) or not 0 < stored <= high_bit + 1 <= allocated:
        raise _PixelsError(f"{stored} of {allocated} bits up to bit {high_bit} make no value")
    slope = _number(header, "RescaleSlope", 1.0)
    intercept = _number(header, "RescaleIntercept", 0.0)
    if slope == 0.0:
        raise _PixelsError("their rescale slope is 0")
    return _Pixels(
        rows=_whole(header, "Rows", 0),
        columns=_whole(header, "Columns", 0),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=_whole(header, "PixelRepresentation", 0) == 1,
        slope=slope,
        intercept=intercept,
    )


def _number(header: InstanceHeader, keyword: str, default: float) -> float:
    if header.text(keyword) is None:
        return default
    numbers = header.numbers(keyword)
    if numbers is None or not math.isfinite(numbers[0]):
        raise _PixelsError(f"their {keyword} is no number")
    return numbers[0]


def _whole(header: InstanceHeader, keyword: str, default: int) -> int:
    numbers = header.numbers(keyword)
    return default if numbers is None else int(numbers[0])


def _read_native(file: Path, header: InstanceHeader, pixels: _Pixels) -> NDArray[np.integer]:
    count = pixels.rows * pixels.columns
    wanted = count * pixels.dtype.itemsize
    if header.pixel_offset is None:
        raise _PixelsError("it has no pixel data")
    if header.pixel_length is None or header.pixel_length < wanted:
        raise _PixelsError(f"it has {header.pixel_length} bytes of pixel data instead of {wanted}")
    read = np.fromfile(file, pixels.dtype, count, offset=header.pixel_offset)
    if read.size < count:
        raise _PixelsError(f"its file ends after {read.nbytes} of {wanted} bytes of pixel data")
    return read.reshape(pixels.rows, pixels.columns)


def _values(read: NDArray[np.integer], pixels: _Pixels) -> NDArray[np.integer]:
    # Bits beside the value may hold anything (retired overlays, PS3.5 8.1.1): shift the value to
    # the top, and back down, by which the sign is extended too.
    if pixels.stored == pixels.allocated:
        return read
    read <<= pixels.allocated - 1 - pixels.high_bit
    read >>= pixels.allocated - pixels.stored
    return read


def _decode(file: Path, pixels: _Pixels) -> NDArray[np.integer]:
    try:
        decoded = pixel_array(dcmread(file), raw=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # the decoders' plugins raise whatever they like
        raise _PixelsError(f"they cannot be decoded ({type(error).__name__})") from error
    if decoded.shape != (pixels.rows, pixels.columns):
        raise _PixelsError(f"they decode to {decoded.shape}")
    return decoded


def _rescale(stored: NDArray[np.integer], pixels: _Pixels, plane: NDArray[np.float32]) -> None:
    if pixels.slope == 1.0 and pixels.intercept == 0.0:
        plane[...] = stored
        return
    # In double precision, rounded once: the result is the nearest float32 of the true value.
    values = stored * np.float64(pixels.slope)
    values += pixels.intercept
    plane[...] = values
