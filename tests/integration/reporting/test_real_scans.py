"""Series as scanners wrote them: results are made, pass every check, and measure right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from services.common.headers import HeaderError, InstanceHeader, read_registration
from services.imaging.geometry import GeometryLimits, SeriesGeometry, examine_series
from tests.builders.reporting import workplace


@pytest.mark.parametrize(
    "name",
    ["philips-mr-mprage-classic", "siemens-mr-xa30-classic", "philips-ct-phantom-201"],
)
def test_results_of_a_real_scan_pass_every_check(tmp_path: Path, scan: Any, name: str) -> None:
    files, geometry = _in_order(scan(name))
    place = workplace(tmp_path, files)
    slices, rows, columns = geometry.shape
    labels = np.zeros(geometry.shape, np.uint8)
    labels[slices // 5 : -slices // 5, rows // 4 : -rows // 4, columns // 4 : -columns // 4] = 1
    made = place.make(place.job(labels))
    assert made.withholding is None
    voxel_mm3 = float(np.prod(geometry.pixel_spacing_mm)) * geometry.slice_spacing_mm
    assert made.values[0].value == pytest.approx(int(labels.sum()) * voxel_mm3 / 1000, rel=1e-6)
    seg = pydicom.dcmread(place.store.path(made.results[0].store_key))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(geometry.slice_spacing_mm)


def _in_order(folder: Path) -> tuple[list[Path], SeriesGeometry]:
    read: list[tuple[InstanceHeader, Path]] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            read.append((read_registration(file.read_bytes()).header, file))
        except HeaderError:
            continue  # a licence or a list beside the images
    limits = GeometryLimits(model="The test")
    geometry = examine_series([header for header, _ in read], limits)
    assert isinstance(geometry, SeriesGeometry), geometry
    by_uid = {header.sop_instance_uid: file for header, file in read}
    return [by_uid[plane.sop_instance_uid] for plane in geometry.planes], geometry
