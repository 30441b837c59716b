"""A job's labels in the study store."""

from __future__ import annotations

import gzip
import io
import math
import re
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

# Names as manifests have them.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

# The head of a .npy file of version 1.0 has a length of two bytes.
_MOST_NPY_HEAD = 1 << 16


def labels_key(job_uid: str, output: str) -> str:
    """The store key of an output of a job that is labels.

    What was made before lies under the key that its row has.

    Args:
        job_uid: the job.
        output: its name in the manifest, which is no path.

    Raises:
        ImagingError: the name would leave the job's place.
    """
    if _NAME.fullmatch(output) is None:
        raise ImagingError(f"'{output[:70]}' is no name of an output.")
    return job_key(job_uid, f"{output}.npy.gz")


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


def _mismatch(problem: str) -> Refusal:
    return Refusal("geometry_mismatch", {"problem": problem})
