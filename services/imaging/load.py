"""Pixels of a series that passed the gate, as a `Volume`.

Planes are read by as many threads as there are cores, straight into one preallocated array: int16
(or uint16) where all planes mean their stored values by one slope and intercept, float32
otherwise. Cost of
uncompressed int16: one read of the pixels and nothing else, 0.1 s for 300 x 512 x 512.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import ObjectMissing, StudyStore
from services.imaging.errors import ImagingError
from services.imaging.frames import FrameHeader, Locate, frame_of
from services.imaging.kinds import image_number
from services.imaging.pixels import (
    Pixels,
    PixelsError,
    decode,
    native_offset,
    open_dataset,
    pixels_of,
    read_native,
)
from services.imaging.regular_grid import regular_volume
from services.imaging.series_geometry import SeriesGeometry
from services.imaging.stored_files import missing_under, source_missing, stored_files
from services.imaging.transfer_syntaxes import NATIVE_LITTLE_ENDIAN
from services.imaging.volume import Rescale, Volume, Voxels

# What an int16 holds of unsigned values.
_BITS_OF_INT16 = 15
# No codec packs images of a patient this tightly; below this size nobody asks.
_TIGHTEST_PACKING, _UNQUESTIONED_BYTES = 1000, 256 << 20


@dataclass(frozen=True, slots=True)
class _Plane:
    """One plane to be read: its place in the volume, and what its header says."""

    k: int
    header: InstanceHeader
    pixels: Pixels


def load_volume(
    geometry: SeriesGeometry, headers: Sequence[InstanceHeader], store: StudyStore
) -> Volume | Refusal:
    """Reads the planes of a series from the study store; see `read_volume`."""
    wanted = {plane.sop_instance_uid for plane in geometry.planes}
    sources = [header for header in headers if header.sop_instance_uid in wanted]
    try:
        with stored_files(store, sources) as locate:
            return read_volume(geometry, headers, locate)
    except ObjectMissing as error:
        return missing_under(sources, error.key)


def read_volume(
    geometry: SeriesGeometry, headers: Sequence[InstanceHeader], locate: Locate
) -> Volume | Refusal:
    """Reads the planes of a series in slice order, on the regular grid that a network needs.

    Each slice has its own slope and intercept (PS3.3 C.11.1; in PET they differ). MONOCHROME1 is
    passed as stored values with rescale like MONOCHROME2: it says how to show values, not what the
    values are. What an image declares to be padding is marked in the volume and is no value.
    Tilted and unevenly spaced planes are resampled (`regular_grid`).

    Args:
        geometry: what `examine_series` proved of `headers`.
        headers: of the single planes of the series, in any order.
        locate: gives the file of an instance.

    Returns:
        The volume; `source_missing` or `pixels_unreadable` for the first such slice;
        `blank_image` where all is padding.

    Raises:
        ImagingError: a plane of `geometry` is not among `headers`.
    """
    planes = _planes(geometry, headers)
    if isinstance(planes, Refusal):
        return planes
    array = _allocated(geometry, planes, locate)
    if isinstance(array, Refusal):
        return array
    read = _read_planes(planes, array, locate)
    if isinstance(read, Refusal):
        return read
    rescale = planes[0].pixels.rescale if array.dtype == np.int16 else Rescale()
    if read.wide:
        array, rescale = _widened(planes, array, read.wide, rescale)
    padding = _padding_of(array, read.padded)
    if padding is not None and padding.all():
        return Refusal("blank_image", {"low": "the padding value, which says: not measured"})
    instances = tuple(plane.sop_instance_uid for plane in geometry.planes)
    volume = Volume(array, geometry.affine, instances, rescale, padding)
    return volume if geometry.regular else regular_volume(volume, geometry)


def _planes(geometry: SeriesGeometry, headers: Sequence[InstanceHeader]) -> list[_Plane] | Refusal:
    by_place = {(header.sop_instance_uid, frame_of(header)): header for header in headers}
    planes: list[_Plane] = []
    for k, plane in enumerate(geometry.planes):
        header = by_place.get((plane.sop_instance_uid, plane.frame))
        if header is None:
            raise ImagingError(f"Instance {plane.sop_instance_uid} of the geometry has no header.")
        try:
            pixels = pixels_of(header)
            # Before memory is taken for what a header claims.
            if _is_native(header):
                native_offset(header, pixels)
        except PixelsError as error:
            return _unreadable(header, error)
        planes.append(_Plane(k, header, pixels))
    return planes


def _allocated(
    geometry: SeriesGeometry, planes: Sequence[_Plane], locate: Locate
) -> Voxels | Refusal:
    """Memory for the voxels; ``pixels_unreadable`` where there is not as much, or where the files
    cannot hold as many: the system promises more than it has, and takes it back by a kill.
    """
    try:
        array = np.empty(geometry.shape, np.int16 if _fit_int16(planes) else np.float32)
    except (MemoryError, ValueError):  # the latter: more than an address can count
        size = " x ".join(map(str, geometry.shape))
        return _unreadable(planes[0].header, PixelsError(f"{size} voxels do not fit into memory"))
    asked = array.nbytes > _UNQUESTIONED_BYTES
    if asked and array.nbytes > _TIGHTEST_PACKING * _held(planes, locate):
        problem = f"{array.nbytes} bytes of voxels are more than its series' files can hold"
        return _unreadable(planes[0].header, PixelsError(problem))
    return array


def _held(planes: Sequence[_Plane], locate: Locate) -> int:
    """Bytes of the planes' files that are there."""
    files = {plane.header.sop_instance_uid: plane.header for plane in planes}
    held = 0
    for header in files.values():
        with contextlib.suppress(FileNotFoundError):  # told when it is read
            held += locate(header).stat().st_size
    return held


def _fit_int16(planes: Sequence[_Plane]) -> bool:
    """Whether stored values of all planes fit into int16 with one meaning.

    Unsigned values of 16 bits mostly do, which is seen when they are read.
    """
    return len({plane.pixels.rescale for plane in planes}) == 1 and all(
        plane.pixels.allocated <= _BITS_OF_INT16 + 1 for plane in planes
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What was seen of planes while they were read.

    Attributes:
        wide: planes with values that int16 does not hold.
        padded: plane -> bool [j, i], where nothing was measured.
    """

    wide: frozenset[int]
    padded: Mapping[int, NDArray[np.bool_]]


def _read_planes(planes: Sequence[_Plane], array: Voxels, locate: Locate) -> _Read | Refusal:
    """Fills `array`; the refusal of the first plane that fails."""
    matrices = list(_by_matrix(planes).values())
    datasets = _Datasets(locate)

    def read(matrix: list[_Plane]) -> _Read | Refusal:
        header = matrix[0].header
        try:
            return _read_matrix(matrix, array, datasets)
        except FileNotFoundError:
            return source_missing(header)
        except (PixelsError, OSError) as error:
            return _unreadable(header, error)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "axial-planes") as threads:
        answers = list(threads.map(read, matrices))
    wide: set[int] = set()
    padded: dict[int, NDArray[np.bool_]] = {}
    for answer in answers:
        if isinstance(answer, Refusal):
            return answer
        wide |= answer.wide
        padded.update(answer.padded)
    return _Read(frozenset(wide), padded)


def _padding_of(array: Voxels, padded: Mapping[int, NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
    """The padding of all planes; float32 voxels become NaN there."""
    if not padded:
        return None
    padding = np.zeros(array.shape, np.bool_)
    for k, plane in padded.items():
        padding[k] = plane
        if array.dtype == np.float32:
            array[k][plane] = np.nan
    return padding


def _by_matrix(planes: Sequence[_Plane]) -> Mapping[tuple[str, int | None], list[_Plane]]:
    """Planes that are stored in one matrix: one each, but all tiles of a mosaic."""
    matrices: dict[tuple[str, int | None], list[_Plane]] = {}
    for plane in planes:
        header = plane.header
        tiled = isinstance(header, FrameHeader) and header.tile is not None
        frame = None if tiled else frame_of(header)
        matrices.setdefault((header.sop_instance_uid, frame), []).append(plane)
    return matrices


class _Datasets:
    """Objects that decoders need as a whole; those of many frames are opened once."""

    def __init__(self, locate: Locate) -> None:
        self.locate = locate
        self._opened: dict[str, Dataset] = {}

    def of(self, header: InstanceHeader) -> Dataset:
        """The object of a header."""
        if frame_of(header) is None:
            return open_dataset(self.locate(header), header)
        dataset = self._opened.get(header.sop_instance_uid)
        if dataset is None:
            # Two threads may both open it; the first one's stays.
            opened = open_dataset(self.locate(header), header)
            dataset = self._opened.setdefault(header.sop_instance_uid, opened)
        return dataset


def _read_matrix(matrix: Sequence[_Plane], array: Voxels, datasets: _Datasets) -> _Read:
    """Reads one stored matrix into its planes."""
    first = matrix[0]
    pixels, header = first.pixels, first.header
    native = _is_native(header)
    target = array[first.k]
    tiled = isinstance(header, FrameHeader) and header.tile is not None
    if not tiled and (pixels.rows, pixels.columns) != target.shape:
        raise PixelsError(f"{pixels.columns} x {pixels.rows} pixels")
    if native and not tiled and array.dtype == np.int16 and pixels.allocated == 16:
        padded = read_native(datasets.locate(header), header, pixels, target.view(pixels.dtype))
        return _Read(_wide(matrix, array), {} if padded is None else {first.k: padded})
    if native:
        stored = np.empty((pixels.rows, pixels.columns), pixels.dtype)
        padded = read_native(datasets.locate(header), header, pixels, stored)
    else:
        frame = 1 if tiled else frame_of(header) or 1
        stored, padded = decode(datasets.of(header), frame, pixels)
    for plane in matrix:
        part = stored[_part(plane)]
        if array.dtype == np.float32:
            plane.pixels.rescale.write(part, array[plane.k].view(np.float32))
        else:
            array[plane.k] = part.astype(np.int16)  # too wide ones wrap around, and are seen
    parts = {} if padded is None else {plane.k: padded[_part(plane)] for plane in matrix}
    return _Read(_wide(matrix, array), parts)


def _is_native(header: InstanceHeader) -> bool:
    """Whether pixels lie in the file as they are, which an undefined length says they do not."""
    encapsulated = header.pixel_offset is not None and header.pixel_length is None
    return header.transfer_syntax_uid in NATIVE_LITTLE_ENDIAN and not encapsulated


def _part(plane: _Plane) -> tuple[slice, slice]:
    """Where a plane lies in its stored matrix."""
    header = plane.header
    if not isinstance(header, FrameHeader) or header.tile is None:
        return slice(None), slice(None)
    top, left = header.tile.top, header.tile.left
    rows, columns = (int((header.numbers(name) or (0,))[0]) for name in ("Rows", "Columns"))
    return slice(top, top + rows), slice(left, left + columns)


def _wide(matrix: Sequence[_Plane], array: Voxels) -> frozenset[int]:
    if array.dtype == np.float32:
        return frozenset()
    return frozenset(
        plane.k
        for plane in matrix
        if not plane.pixels.signed
        and plane.pixels.stored > _BITS_OF_INT16
        and int(array[plane.k].min()) < 0
    )


def _widened(
    planes: Sequence[_Plane], array: Voxels, wide: frozenset[int], rescale: Rescale
) -> tuple[Voxels, Rescale]:
    """Stored values some planes of which wrapped around as int16, as what holds them all.

    Where all planes are unsigned, the same bytes as uint16; else real-world values.
    """
    if not any(plane.pixels.signed for plane in planes):
        return array.view(np.uint16), rescale
    values = np.empty(array.shape, np.float32)
    for k, plane in enumerate(array):
        rescale.write(plane.view(np.uint16 if k in wide else np.int16), values[k])
    return values, Rescale()


def _unreadable(header: InstanceHeader, error: PixelsError | OSError) -> Refusal:
    # The text of an OSError would name the file, and with it three UIDs and our folders.
    text = error.strerror if isinstance(error, OSError) else str(error)
    problem = text or "the disk does not give its file"
    values = {
        "instance": image_number(header),
        "instance_uid": header.sop_instance_uid,
        "problem": problem,
    }
    return Refusal("pixels_unreadable", values)
