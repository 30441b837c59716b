"""The stored values of one matrix: how they lie in its file, and how they are read from there.

Native little endian pixels go by offset straight into the memory they are wanted in; everything
else (compressed, big endian, deflated) goes through pydicom's decoders. Both leave the
interpreter's lock while they work, so that several threads read several planes.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, RLELossless

from services.common.code_streams import (
    CODE_STREAMS,
    encoded_frame,
    holds_more_runs,
    problem_of,
    syntax_of,
)
from services.common.headers import InstanceHeader
from services.common.sentences import keyword_in_words
from services.common.stored_objects import StoredObjectError, bound_of, read_object
from services.common.telemetry import get_logger
from services.imaging.frames import FrameHeader, whole_attributes
from services.imaging.transfer_syntaxes import NATIVE_LITTLE_ENDIAN, transfer_syntax_name
from services.imaging.volume import Rescale

_log = get_logger("imaging")


class PixelsError(Exception):
    """The pixels of an image cannot be read; the message is the refusal's `problem`."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Stored values that say that nothing was measured (PS3.3 C.7.5.1.1.2), ends included."""

    lowest: int
    highest: int

    def within(self, stored: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Where `stored` is padding."""
        if self.lowest == self.highest:
            return stored == self.lowest
        return (stored >= self.lowest) & (stored <= self.highest)


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a matrix is stored (PS3.3 C.7.6.3) and what its values mean (PS3.3 C.11.1).

    Attributes:
        rows, columns: of the matrix as stored: of a mosaic, all tiles.
        allocated, stored, high_bit: bits; the value lies in bits high_bit ... high_bit-stored+1.
        padding: None where the image declares none.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    rescale: Rescale
    padding: Padding | None = None

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The type of one stored pixel."""
        kind = "i" if self.signed else "u"
        return np.dtype(f"<{kind}{self.allocated // 8}")

    @property
    def nbytes(self) -> int:
        """Bytes of one matrix."""
        return self.rows * self.columns * self.dtype.itemsize

    def can_be(self, stored: int) -> bool:
        """Whether the bits of a value can say `stored`."""
        lowest = -(1 << self.stored - 1) if self.signed else 0
        return lowest <= stored < lowest + (1 << self.stored)


def pixels_of(header: InstanceHeader) -> Pixels:
    """What the header of an image says of its pixels.

    Raises:
        PixelsError: the header contradicts itself.
    """
    allocated = _whole(header, "BitsAllocated", 16)
    stored = _whole(header, "BitsStored", allocated)
    high_bit = _whole(header, "HighBit", stored - 1)
    if allocated not in (8, 16, 32) or not 0 < stored <= high_bit + 1 <= allocated:
        raise PixelsError(f"{stored} of {allocated} bits up to bit {high_bit} make no value")
    slope = _number(header, "RescaleSlope", 1.0)
    if slope == 0.0:
        raise PixelsError("their rescale slope is 0")
    rows, columns = _whole(header, "Rows", 0), _whole(header, "Columns", 0)
    if isinstance(header, FrameHeader) and header.tile is not None:
        rows, columns = header.tile.matrix_rows, header.tile.matrix_columns
    signed = _whole(header, "PixelRepresentation", 0) == 1
    return Pixels(
        rows=rows,
        columns=columns,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=signed,
        rescale=Rescale(slope, _number(header, "RescaleIntercept", 0.0)),
        padding=_padding(header, signed=signed),
    )


def _padding(header: InstanceHeader, *, signed: bool) -> Padding | None:
    """Stored values, before rescale, with the sign that PixelRepresentation tells.

    Senders mix up US and SS, so the sign comes from the pixels and not from the VR.
    """
    if header.text("PixelPaddingValue") is None:
        return None
    value = _whole(header, "PixelPaddingValue", 0)
    limit = _whole(header, "PixelPaddingRangeLimit", value)
    ends = sorted(_with_sign(end, signed=signed) for end in (value, limit))
    return Padding(ends[0], ends[1])


def _with_sign(word: int, *, signed: bool) -> int:
    if signed:
        return word - (1 << 16) if 1 << 15 <= word < 1 << 16 else word
    return word + (1 << 16) if word < 0 else word


def native_offset(header: InstanceHeader, pixels: Pixels) -> int:
    """Where the stored values of a native little endian matrix begin in their file.

    Raises:
        PixelsError: there are too few values for the matrix.
    """
    if header.pixel_offset is None:
        raise PixelsError("it has no pixel data")
    if header.pixel_length is None or header.pixel_length < pixels.nbytes:
        raise PixelsError(
            f"it has {header.pixel_length} bytes of pixel data instead of {pixels.nbytes}"
        )
    return header.pixel_offset


def read_native(
    file: Path, header: InstanceHeader, pixels: Pixels, into: NDArray[np.integer]
) -> NDArray[np.bool_] | None:
    """Reads the stored values at the kept offset.

    Args:
        file: the image's.
        header: of the image.
        pixels: of the header.
        into: of `pixels.dtype`, [rows, columns], C-contiguous.

    Returns:
        bool [rows, columns], where the values are padding; None where no value is.

    Raises:
        PixelsError: there are too few values.
        OSError: the disk does not give the values.
    """
    offset, wanted = native_offset(header, pixels), pixels.nbytes
    view = into.reshape(-1).view(np.uint8).data
    read = 0
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while read < wanted:
            more = os.preadv(descriptor, [view[read:]], offset + read)
            if not more:
                break
            read += more
    finally:
        os.close(descriptor)
    if read < wanted:
        raise PixelsError(f"its file ends after {read} of {wanted} bytes of pixel data")
    return _values_of_words(into, pixels)


def open_dataset(file: Path, header: InstanceHeader) -> Dataset:
    """The whole object of a plane, for `decode`; no more of the object than its matrix can hold.

    Args:
        file: the object's.
        header: of the plane.

    Raises:
        PixelsError: the file is no sound DICOM object, or holds more than its header tells.
        OSError: the disk does not give the file.
    """
    try:
        return read_object(file, header.transfer_syntax_uid, bound_of(whole_attributes(header)))
    except StoredObjectError as error:
        raise PixelsError(str(error)) from error


def decode(
    dataset: Dataset, frame: int, pixels: Pixels
) -> tuple[NDArray[np.integer], NDArray[np.bool_] | None]:
    """The stored values of one frame, decompressed: [rows, columns]; and where they are padding.

    Args:
        dataset: of `open_dataset`.
        frame: from 1.
        pixels: of the header.

    Raises:
        PixelsError: the values cannot be decoded, or decode to something else.
    """
    syntax = str(dataset.file_meta.get("TransferSyntaxUID"))
    if "PixelData" not in dataset:
        raise PixelsError("it has no pixel data")
    if syntax in NATIVE_LITTLE_ENDIAN and dataset["PixelData"].is_undefined_length:
        syntax = _name_encoding(dataset, frame, syntax)
    if syntax in CODE_STREAMS:
        _check_code_stream(dataset, frame, syntax, pixels)
    elif syntax == RLELossless:
        _check_runs(dataset, frame, pixels)
    try:
        # The library takes a code stream's own precision for that of the value.
        decoded = pixel_array(dataset, raw=True, index=frame - 1, correct_unused_bits=False)
    except BaseException as error:  # the decoders' plugins raise whatever they like
        # What a plugin written in Rust panics with is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _undecodable(dataset, error) from error
    if decoded.shape != (pixels.rows, pixels.columns):
        raise PixelsError(f"they decode to {decoded.shape}")
    decoded = decoded.astype(pixels.dtype, copy=False)
    return decoded, _values_of_words(decoded, pixels)


def _name_encoding(dataset: Dataset, frame: int, registered_syntax: str) -> str:
    """The transfer syntax of pixels that are compressed although theirs says that they are not."""
    syntax = syntax_of(_encoded_frame(dataset, frame))
    if syntax is None:
        name = transfer_syntax_name(registered_syntax)
        raise PixelsError(f"they are compressed, although their transfer syntax is {name}")
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return syntax


def _check_code_stream(dataset: Dataset, frame: int, syntax: str, pixels: Pixels) -> None:
    if pixels.high_bit != pixels.stored - 1:
        depth = f"{pixels.stored} bits up to bit {pixels.high_bit}"
        raise PixelsError(f"{depth} cannot be told from a code stream")
    stream = _encoded_frame(dataset, frame)
    problem = problem_of(stream, syntax, pixels.rows, pixels.columns, pixels.allocated)
    if problem is not None:
        raise PixelsError(problem)


def _check_runs(dataset: Dataset, frame: int, pixels: Pixels) -> None:
    if holds_more_runs(_encoded_frame(dataset, frame), pixels.nbytes):
        raise PixelsError(f"their runs are of more than the {pixels.nbytes} bytes of their matrix")


def _encoded_frame(dataset: Dataset, frame: int) -> bytes:
    try:
        return encoded_frame(dataset, frame)
    except Exception as error:  # as the library meets a damaged encapsulation
        raise _undecodable(dataset, error) from error


def _undecodable(dataset: Dataset, error: BaseException) -> PixelsError:
    # What a decoder says may quote the data; its kind is for the log alone.
    _log.info("pixels_not_decoded", kind=type(error).__name__)
    if dataset.file_meta.get("TransferSyntaxUID") == RLELossless and _untold(dataset):
        return PixelsError(
            "its frames lie in several fragments, and nothing tells where each begins"
        )
    return PixelsError("they cannot be decoded: they are cut off, damaged, or compressed otherwise")


def _untold(dataset: Dataset) -> bool:
    """Whether nothing tells where frames of runs begin: each should be one fragment (PS3.5 A.4.2).

    Code streams in several fragments are told by their ends.
    """
    encapsulated = BytesIO(dataset.PixelData)
    try:
        if dataset.get("ExtendedOffsetTable") or parse_basic_offsets(encapsulated):
            return False
        fragments, _ = parse_fragments(encapsulated)
        return fragments > int(dataset.get("NumberOfFrames") or 1) > 1
    except Exception:  # noqa: BLE001 - as the library meets a damaged encapsulation
        return False


def _values_of_words(words: NDArray[np.integer], pixels: Pixels) -> NDArray[np.bool_] | None:
    """Makes stored values of the words that were read, in place; returns where they are padding."""
    padding = pixels.padding
    if padding is None:
        _keep_value_bits(words, pixels)
        return None
    # Padding that no value can be (-2000 in 12 bits without a sign) is told by the whole word.
    whole = not (pixels.can_be(padding.lowest) and pixels.can_be(padding.highest))
    padded = padding.within(words) if whole else None
    _keep_value_bits(words, pixels)
    if padded is None:
        padded = padding.within(words)
    return padded if padded.any() else None


def _keep_value_bits(read: NDArray[np.integer], pixels: Pixels) -> None:
    # Bits beside the value may hold anything (retired overlays, PS3.5 8.1.1): shift the value to
    # the top, and back down, by which the sign is extended too.
    if pixels.stored == pixels.allocated:
        return
    read <<= pixels.allocated - 1 - pixels.high_bit
    read >>= pixels.allocated - pixels.stored


def _number(header: InstanceHeader, keyword: str, default: float) -> float:
    if header.text(keyword) is None:
        return default
    numbers = header.numbers(keyword)
    if numbers is None or not math.isfinite(numbers[0]):
        raise PixelsError(f"their {keyword_in_words(keyword)} is no number")
    return numbers[0]


def _whole(header: InstanceHeader, keyword: str, default: int) -> int:
    number = _number(header, keyword, float(default))
    if not number.is_integer():
        raise PixelsError(f"their {keyword_in_words(keyword)} is no whole number")
    return int(number)
