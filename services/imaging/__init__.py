"""Images: a DICOM series becomes a `Volume`, and a `Volume` a series.

`examine_series` is the geometry gate: from kept headers alone it proves that a series is one
regular grid (`SeriesGeometry`) or refuses it with the one most telling reason. `load_volume` reads
the pixels of a series that passed. `write_labels` and `read_labels` keep a job's labels in the
study store, `assert_same_grid` proves that two grids are the same in patient space, and
`write_mr_series` writes a volume as a classic MR series. Arrays are indexed [k, j, i] (slice, row,
column); coordinates are LPS millimetres. NIfTI is not read here: `lps_from_ras` turns its affine.
"""

from services.imaging.errors import ImagingError
from services.imaging.geometry import (
    GeometryLimits,
    Plane,
    SeriesGeometry,
    examine_series,
    is_localizer,
)
from services.imaging.labels import assert_same_grid, labels_key, read_labels, write_labels
from services.imaging.limits import limits_of
from services.imaging.load import load_volume
from services.imaging.series_writer import SeriesAttributes, stored_values, write_mr_series
from services.imaging.volume import Volume, lps_from_ras, plane_corners

__all__ = [
    "GeometryLimits",
    "ImagingError",
    "Plane",
    "SeriesAttributes",
    "SeriesGeometry",
    "Volume",
    "assert_same_grid",
    "examine_series",
    "is_localizer",
    "labels_key",
    "limits_of",
    "load_volume",
    "lps_from_ras",
    "plane_corners",
    "read_labels",
    "stored_values",
    "write_labels",
    "write_mr_series",
]
