"""How objects of ours refer to the planes of their source.

A plane of a classic series is an instance. A frame of an enhanced object is named by its instance
and ReferencedFrameNumber (PS3.3 10.3). A tile of a Siemens mosaic has no number of its own in
DICOM: its instance is named, and the frame's position tells the tile; its pixels are not at the
same place in the source's matrix, and SpatialLocationsPreserved says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset

from services.common.headers import InstanceHeader
from services.imaging.frames import FrameHeader, Tile
from services.reporting.source.series import SourceSeries

# SOP instance UID, and the number of the frame in it.
Reference = tuple[str, int | None]


def referenced_frame(header: InstanceHeader) -> int | None:
    """The frame number that a reference to this plane has to tell."""
    return header.frame if isinstance(header, FrameHeader) and header.tile is None else None


def tile_of(header: InstanceHeader) -> Tile | None:
    """Where the plane lies in a mosaic; None for every other plane."""
    return header.tile if isinstance(header, FrameHeader) else None


def instances_of(source: SourceSeries) -> list[InstanceHeader]:
    """One header of every instance of the source, in the order of its first slice."""
    return list({header.sop_instance_uid: header for header in source.headers[::-1]}.values())[::-1]


def frames_by_instance(source: SourceSeries) -> Mapping[str, list[int]]:
    """The frames that the source reads of each of its multi-frame instances."""
    frames: dict[str, list[int]] = {}
    for header in source.headers:
        frame = referenced_frame(header)
        if frame is not None:
            frames.setdefault(header.sop_instance_uid, []).append(frame)
    return frames


def preserved(header: InstanceHeader) -> str:
    """SpatialLocationsPreserved: whether a pixel lies at the same place in the source's matrix."""
    return "NO" if tile_of(header) is not None else "YES"


def slices_by_reference(source: SourceSeries) -> Mapping[Reference, list[int]]:
    """The slices that an instance and a frame number name: one, but all tiles of a mosaic."""
    slices: dict[Reference, list[int]] = {}
    for k, header in enumerate(source.headers):
        reference = header.sop_instance_uid, referenced_frame(header)
        slices.setdefault(reference, []).append(k)
    return slices


def slice_named(
    item: Dataset,
    position: Sequence[str],
    source: SourceSeries,
    slices: Mapping[Reference, list[int]],
) -> int:
    """The slice that a SourceImageSequence item refers to; -1 for none of the source.

    Args:
        position: ImagePositionPatient of the referring frame as written, which tells tiles apart.
        slices: of `slices_by_reference`.
    """
    reference = item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")
    named = slices.get(reference, [])
    if len(named) > 1:
        wanted = list(position)
        named = [k for k in named if source.headers[k].attributes["ImagePositionPatient"] == wanted]
    return named[0] if named else -1
