"""A job's labels in the study store, and the proof that two grids are one."""

from __future__ import annotations

import gzip
import io
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.identity import sha256_hex
from services.common.store import StudyStore, job_key
from services.imaging.errors import ImagingError

# Label volumes are long runs of equal bytes: level 1 already makes them some hundred times
# smaller, and higher levels cost many times more for little.
_GZIP_LEVEL = 1

# The head of a .npy file of version 1.0 has a length of two bytes.
_MOST_NPY_HEAD = 1 << 16

# A label that lies this far from its voxel cannot be told from it: one thousandth of the smallest
# pixel in use (0.1 mm in micro imaging excepted), and above what decimal strings of 16
# characters (PS3.5 6.2, DS) lose on coordinates of some hundred millimetres.
SAME_GRID_TOLERANCE_MM = 1e-3


def labels_key(job_uid: str) -> str:
    """The store key of a job's labels."""
    return job_key(job_uid, "labels.npy.gz")


def write_labels(store: StudyStore, key: str, labels: NDArray[np.uint8]) -> str:
    """Stores labels durably as gzip of a .npy, and returns the SHA-256 of the stored object.

    Args:
        key: see `labels_key`.
        labels: uint8 [k, j, i] on the source grid.

    Raises:
        ImagingError: not uint8, or not three axes.
        StoreError: the disk refused.
    """
    if labels.dtype != np.uint8 or labels.ndim != 3:
        raise ImagingError(f"Labels are uint8 [k, j, i], not {labels.dtype} {labels.shape}.")
    buffer = io.BytesIO()
    # Without a time stamp the same labels give the same bytes.
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed:
        np.save(packed, np.ascontiguousarray(labels), allow_pickle=False)
    store.put(key, [buffer.getbuffer()])
    return sha256_hex(buffer.getbuffer())


def read_labels(
    store: StudyStore, key: str, shape: tuple[int, int, int], digest: str = ""
) -> NDArray[np.uint8] | Refusal:
    """The labels under `key`: uint8 [k, j, i] on the source grid.

    Args:
        store: holds the labels.
        key: of the labels.
        shape: of the source grid. No more is decompressed than labels of this shape need.
        digest: SHA-256 of the stored object; empty where none is known.

    Returns:
        The labels; `geometry_mismatch` where they have another shape.

    Raises:
        StoreError: there is no such key.
        ImagingError: the object holds something else, or has another digest; retryable then: it
            may have been in the middle of being written again.
    """
    stored = store.read(key)
    if digest and sha256_hex(stored) != digest:
        raise ImagingError(
            f"The labels under {key} are not those that were stored first (their SHA-256 differs).",
            retryable=True,
        )
    most = math.prod(shape) + _MOST_NPY_HEAD
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(stored)) as packed:
            # One byte more than there may be: up to the end, where the check sum is.
            content = io.BytesIO(packed.read(most + 1))
        np.lib.format.read_magic(content)
        found, _, kind = np.lib.format.read_array_header_1_0(content)
        if kind != np.uint8 or len(found) != 3:
            raise ImagingError(f"{key} holds {kind} {found}, not uint8 [k, j, i].")
        if found != shape:
            found_size = " x ".join(map(str, found))
            return _mismatch(
                f"the labels have {found_size} voxels, the images {' x '.join(map(str, shape))}"
            )
        return np.frombuffer(content.read(), np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ImagingError(f"The labels under {key} cannot be read: {error}.") from error


def assert_same_grid(
    source_corners: NDArray[np.float64], other_corners: NDArray[np.float64]
) -> Refusal | None:
    """Checks that two grids are the same places in the patient.

    Coordinates are compared, not shapes: two grids of one shape may lie anywhere.

    Args:
        source_corners: float64 [k, 4, 3] in LPS mm, from `SeriesGeometry.corners`,
            `Volume.corners` or `plane_corners`.
        other_corners: the same of the other grid.

    Returns:
        `geometry_mismatch` with the problem, None when every corner of every plane lies within
        `SAME_GRID_TOLERANCE_MM`.
    """
    if source_corners.shape != other_corners.shape:
        return _mismatch(f"{len(other_corners)} planes against {len(source_corners)} of the images")
    distances = np.linalg.norm(source_corners - other_corners, axis=2)
    worst = float(distances.max(initial=0.0))
    if not worst <= SAME_GRID_TOLERANCE_MM:  # a NaN is a mismatch too
        plane = int(distances.max(axis=1).argmax()) + 1
        return _mismatch(f"plane {plane} lies {worst:.4g} mm off")
    return None


def _mismatch(problem: str) -> Refusal:
    return Refusal("geometry_mismatch", {"problem": problem})
