"""Opening a series: every plane becomes a header of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import ObjectMissing, StoreError, StudyStore
from services.common.telemetry import get_logger
from services.imaging.diffusion import with_diffusion
from services.imaging.frames import (
    FrameHeader,
    Locate,
    UnplacedFrames,
    is_multiframe,
    tiling_of,
)
from services.imaging.functional_groups import read_frames
from services.imaging.kinds import which
from services.imaging.mosaic import read_tiles
from services.imaging.stored_files import missing_under, source_missing, stored_files
from services.imaging.vframe import read_vframe

_log = get_logger("imaging")

# Value of ImageType -> the reader of its vendor's images that tile many slices.
_READERS: Mapping[str, Callable[[InstanceHeader, Path], list[FrameHeader]]] = {
    "MOSAIC": read_tiles,
    "VFRAME": read_vframe,
}


def open_stored_images(
    headers: Sequence[InstanceHeader], store: StudyStore
) -> tuple[InstanceHeader, ...] | Refusal:
    """`open_images` of a series in the study store.

    Raises:
        StoreError: a file is there and cannot be read.
    """
    many = [header for header in headers if is_multiframe(header) or tiling_of(header)]
    try:
        with stored_files(store, many) as locate:
            return open_images(headers, locate)
    except ObjectMissing as error:
        return missing_under(many, error.key)


def open_images(
    headers: Sequence[InstanceHeader], locate: Locate
) -> tuple[InstanceHeader, ...] | Refusal:
    """Every plane of a series; opens a file only where an instance holds many planes.

    Args:
        headers: the kept headers of a series.
        locate: gives the file of an instance.

    Returns:
        Headers of single planes, or `enhanced_multiframe`, `mosaic` or `source_missing` when the
        planes of an object cannot be told.

    Raises:
        StoreError, OSError: the store or the disk does not give a file that is there.
    """
    images: list[InstanceHeader] = []
    for header in map(with_diffusion, headers):
        if is_multiframe(header):
            read, reason = read_frames, "enhanced_multiframe"
        elif (tiling := tiling_of(header)) is not None:
            read, reason = _READERS[tiling], "mosaic"
        else:
            images.append(header)
            continue
        try:
            images += read(header, locate(header))
        except FileNotFoundError:
            return source_missing(header)
        except UnplacedFrames as error:
            return Refusal(reason, {"problem": str(error), "odd": _of_several(header, headers)})
        except StoreError:
            raise
        except Exception as error:  # pydicom raises whatever it meets in a damaged header
            # Only a disk's error has a number; pydicom's own of this kind tell of damaged bytes.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            _log.info("header_not_read", kind=type(error).__name__)
            values = {"problem": "its header is damaged", "odd": _of_several(header, headers)}
            return Refusal(reason, values)
    return tuple(images)


def _of_several(header: InstanceHeader, headers: Sequence[InstanceHeader]) -> str:
    return which(headers, [each.sop_instance_uid == header.sop_instance_uid for each in headers])
