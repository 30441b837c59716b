"""Small MR series that look like a head acquisition to selectors and gate, in any orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.common.identity import derived_uid
from services.imaging import SeriesAttributes, Volume, write_mr_series


def write_head_like(
    folder: Path,
    *,
    study: str = "study",
    series: str = "series",
    slices: int = 24,
    number: int = 1,
    description: str = "T1 MPRAGE",
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "OTHER"),
    frame: str = "frame",
) -> list[Path]:
    """Writes an axial series of 5 mm slices, 120 mm wide; UIDs derive from the names given."""
    pixels = np.zeros((slices, 24, 24), np.float32)
    pixels[2:-2, 4:-4, 4:-4] = np.arange(100, 900, 50, dtype=np.float32)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = (-60.0, -60.0, -60.0)
    attributes = SeriesAttributes(
        study_uid=derived_uid("test", study),
        series_uid=derived_uid("test", study, series),
        frame_of_reference_uid=derived_uid("test", study, frame),
        patient_name="Secret^Name",
        patient_id="SECRET-ID",
        series_number=number,
        series_description=description,
        body_part_examined="HEAD",
        image_type=image_type,
        mr_acquisition_type="3D",
    )
    return write_mr_series(Volume(pixels, affine), folder / series, attributes)
