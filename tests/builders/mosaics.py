"""Siemens mosaics whose CSA header fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from tests.builders import broken_series
from tests.builders.series import edit
from tests.unit.imaging.test_csa import element, header


def sound_mosaic(folder: Path, **attributes: Any) -> Path:
    """Four slices of 12 x 10 pixels in one image; `attributes` as `edit` takes them."""
    (file,) = broken_series.mosaic(folder)
    csa = header(
        element("NumberOfImagesInMosaic", ["4"]),
        element("SliceNormalVector", ["0", "0", "1"]),
    )
    data = pydicom.dcmread(file)
    block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa + b"\0" * (len(csa) % 2))
    data.save_as(file)
    return edit(file, **{"SpacingBetweenSlices": "3.6", **attributes})
