"""Whether two stored images have the same stored values, in whatever transfer syntaxes they lie.

What is encoded without loss decodes to what it was made of. Every frame is asked what a decoder
must not be let at (`code_streams`), and no more of an object is read than its matrix can hold.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
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
from services.common.stored_objects import bound_of, read_object

# A stored object and its header.
StoredImage = tuple[Path, InstanceHeader]


class _NotDecoded(Exception):
    """A frame that no decoder is let at."""


def same_values(one: StoredImage, other: StoredImage) -> bool:
    """Whether both decode to the same values; False also where either cannot be decoded.

    Bits beside the value (PS3.5 8.1.1) count for nothing: not every encoding keeps them.
    Cost: both are decoded, one frame at a time.

    Raises:
        OSError: the disk does not give a file.
    """
    try:
        return _same(_read(*one), _read(*other))
    except BaseException as error:  # the decoders' plugins raise whatever they like
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # What a plugin written in Rust panics with is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return False


def _read(file: Path, header: InstanceHeader) -> Dataset:
    return read_object(file, header.transfer_syntax_uid, bound_of(header.attributes))


def _same(one: Dataset, other: Dataset) -> bool:
    frames = [int(dataset.get("NumberOfFrames") or 1) for dataset in (one, other)]
    return frames[0] == frames[1] and all(
        np.array_equal(_values(one, frame), _values(other, frame))
        for frame in range(1, frames[0] + 1)
    )


def _values(dataset: Dataset, frame: int) -> NDArray[np.uint32]:
    """A frame's values as their bits."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if dataset["PixelData"].is_undefined_length and syntax not in CODE_STREAMS | {RLELossless}:
        # Compressed, although its transfer syntax says that it is not.
        syntax = syntax_of(encoded_frame(dataset, frame)) or syntax
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    matrix = dataset.Rows, dataset.Columns
    if syntax in CODE_STREAMS:
        stream = encoded_frame(dataset, frame)
        if problem_of(stream, syntax, *matrix, dataset.BitsAllocated) is not None:
            raise _NotDecoded
    elif syntax == RLELossless:
        samples = dataset.get("SamplesPerPixel", 1)
        frame_bytes = math.prod(matrix) * samples * dataset.BitsAllocated // 8
        if holds_more_runs(encoded_frame(dataset, frame), frame_bytes):
            raise _NotDecoded
    decoded = pixel_array(dataset, raw=True, index=frame - 1, correct_unused_bits=False)
    bits = decoded.astype(np.int64).astype(np.uint32)
    shift = dataset.HighBit + 1 - dataset.BitsStored
    return (bits >> np.uint32(shift)) & np.uint32((1 << dataset.BitsStored) - 1)
