"""A series that lies in files, as a volume: without a database, a store or a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.imaging.errors import ImagingError
from services.imaging.geometry import GeometryLimits, examine_series
from services.imaging.header_files import read_headers
from services.imaging.kinds import images_of
from services.imaging.load import read_volume
from services.imaging.opening import open_images
from services.imaging.volume import Volume


def read_series(files: Sequence[Path], limits: GeometryLimits | None = None) -> Volume | Refusal:
    """Reads the headers of one series, proves its geometry and loads its sorted volume.

    Args:
        files: of one series, in any order.
        limits: what is accepted; by default every regular grid.

    Raises:
        ImagingError: there is no file, or the files are of several series.
        HeaderError: a file is no DICOM object.
        OSError: a file cannot be read.
    """
    headers = read_headers(files)
    if len({header.series_uid for header in headers}) != 1:
        raise ImagingError("The files are not of one series.")
    file_of = {header.sop_instance_uid: file for header, file in zip(headers, files, strict=True)}

    def locate(header: InstanceHeader) -> Path:
        return file_of[header.sop_instance_uid]

    images = open_images(images_of(headers).headers, locate)
    if isinstance(images, Refusal):
        return images
    geometry = examine_series(images, limits or GeometryLimits(model="The reader"))
    if isinstance(geometry, Refusal):
        return geometry
    return read_volume(geometry, images, locate)
