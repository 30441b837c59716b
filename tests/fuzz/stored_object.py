"""What every room does with a stored file, for any bytes: it reads it, or says why not."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np

from services.common.headers import HeaderError
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.frames import UnplacedFrames
from services.imaging.functional_groups import read_frames
from services.imaging.header_files import read_headers
from services.imaging.mosaic import read_tiles
from services.imaging.pixels import (
    PixelsError,
    decode,
    native_offset,
    open_dataset,
    pixels_of,
    read_native,
)
from services.imaging.transfer_syntaxes import NATIVE_LITTLE_ENDIAN
from services.reporting.source.patients import differing_patients

# Larger ones are sound, and slow.
_MOST_BYTES = 1 << 20


def read_everywhere(file: Path) -> str:
    """Reads a file as the rooms do; returns how far that went, for the tests of the seeds.

    Raises:
        Exception: whatever is no answer of a room: a finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (header,) = read_headers([file])
        except HeaderError:
            return "no object"
        bound = bound_of(header.attributes)
        try:
            differing_patients([file])
            read_head(file, header.transfer_syntax_uid, bound)
        except StoredObjectError:
            return "no head"
        for read in (read_frames, read_tiles):
            with contextlib.suppress(UnplacedFrames, ValueError):
                read(header, file)
        try:
            pixels = pixels_of(header)
            if pixels.nbytes > _MOST_BYTES or pixels.nbytes == 0:
                return "another size"
            encapsulated = header.pixel_offset is not None and header.pixel_length is None
            if header.transfer_syntax_uid in NATIVE_LITTLE_ENDIAN and not encapsulated:
                native_offset(header, pixels)
                stored = np.empty((pixels.rows, pixels.columns), pixels.dtype)
                read_native(file, header, pixels, stored)
            else:
                stored, _ = decode(open_dataset(file, header), 1, pixels)
        except PixelsError:
            return "no pixels"
        assert stored.shape == (pixels.rows, pixels.columns)
        assert stored.dtype == pixels.dtype
        return "pixels"
