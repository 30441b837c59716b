"""Images: a DICOM series becomes a `Volume`, and a `Volume` a series.

`examine_series` is the geometry gate: from kept headers alone it proves that a series is one
regular grid (`SeriesGeometry`) or refuses it with the one most telling reason. `load_volume` reads
the pixels of a series that passed. Before the gate, `images_of` tells images from other objects,
`open_images` makes single planes of
multi-frame objects and mosaics, and `split_volumes` tells the volumes of one series apart; after
the network, `labels_on_source` brings labels back onto the slices. `read_series` does the way
from files to a volume at once. `segments_at_unmeasured` says which of them reach padding.
`write_labels` and `read_labels` keep a job's labels in the study store, and `write_mr_series`
writes a volume as a classic MR series. Arrays are indexed [k, j, i] (slice, row, column);
coordinates are LPS millimetres. NIfTI is not read here.
"""

from services.imaging.errors import ImagingError
from services.imaging.frames import FrameHeader, frame_of
from services.imaging.geometry import (
    GeometryLimits,
    Plane,
    SeriesGeometry,
    examine_series,
    is_localizer,
)
from services.imaging.kinds import SeriesImages, images_of
from services.imaging.labels import labels_key, read_labels, write_labels
from services.imaging.limits import limits_of
from services.imaging.load import load_volume, read_volume
from services.imaging.opening import open_images, open_stored_images
from services.imaging.regular_grid import labels_on_source
from services.imaging.series_files import read_series
from services.imaging.series_writer import SeriesAttributes, stored_values, write_mr_series
from services.imaging.splitting import SourceVolume, SplitSeries, split_volumes
from services.imaging.unmeasured import segments_at_unmeasured
from services.imaging.volume import Rescale, Volume, plane_corners

__all__ = [
    "FrameHeader",
    "GeometryLimits",
    "ImagingError",
    "Plane",
    "Rescale",
    "SeriesAttributes",
    "SeriesGeometry",
    "SeriesImages",
    "SourceVolume",
    "SplitSeries",
    "Volume",
    "examine_series",
    "frame_of",
    "images_of",
    "is_localizer",
    "labels_key",
    "labels_on_source",
    "limits_of",
    "load_volume",
    "open_images",
    "open_stored_images",
    "plane_corners",
    "read_labels",
    "read_series",
    "read_volume",
    "segments_at_unmeasured",
    "split_volumes",
    "stored_values",
    "write_labels",
    "write_mr_series",
]
