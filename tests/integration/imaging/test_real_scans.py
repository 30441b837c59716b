"""Real scans end as the right volume, or with the right reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import StudyStore
from services.imaging import GeometryLimits, SeriesGeometry, Volume, examine_series, load_volume
from services.imaging.load import load_volume as load
from tests.builders.series import headers_of, stored

Scan = Callable[[str], Path]
LIMITS = GeometryLimits("a model")

REFUSED = {
    "ge-ct-head-tilted": "gantry_tilt",
    "ge-mr-epi-4d": "several_volumes",
    "philips-ct-localizer": "localizer",
    "philips-mr-asl-source-enhanced": "enhanced_multiframe",
    "philips-mr-fieldmap-classic": "several_volumes",
    "philips-mr-fieldmap-enhanced": "enhanced_multiframe",
    "siemens-mr-mosaic-axial": "mosaic",
    "siemens-mr-mosaic-coronal": "mosaic",
    "siemens-mr-mosaic-sagittal": "mosaic",
    "siemens-mr-mosaic-jpeg": "mosaic",
    "siemens-mr-mosaic-jpeg2000": "mosaic",
    "siemens-mr-xa30-enhanced": "enhanced_multiframe",
}
# name -> shape, voxel size (i, j, k) in mm
VOLUMES = {
    "philips-mr-mprage-classic": ((170, 256, 256), (1.0, 1.0, 1.0)),
    "philips-ct-phantom-201": ((28, 512, 512), (0.451171875, 0.451171875, 5.0)),
    "siemens-mr-xa30-classic": ((63, 86, 86), (2.23256, 2.23256, 2.2)),
}


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_scan_is_refused_with_its_reason(name: str, reason: str, scan: Scan) -> None:
    refusal = examine_series(headers_of(files_of(scan(name))), LIMITS)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


def test_field_map_names_its_four_volumes(scan: Scan) -> None:
    headers = headers_of(files_of(scan("philips-mr-fieldmap-classic")))
    refusal = examine_series(headers, LIMITS)
    assert isinstance(refusal, Refusal)
    assert refusal.values == {"volumes": 4, "attribute": "EchoTime and ImageType"}


def test_tilted_head_is_uneven_too_where_tilt_is_accepted(scan: Scan) -> None:
    headers = headers_of(files_of(scan("ge-ct-head-tilted")))
    limits = GeometryLimits("a model", accepts_gantry_tilt=True)
    refusal = examine_series(headers, limits)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "uneven_spacing"


@pytest.mark.parametrize(("name", "expected"), VOLUMES.items())
def test_scan_is_the_right_volume(
    name: str,
    expected: tuple[tuple[int, int, int], tuple[float, float, float]],
    scan: Scan,
    tmp_path: Path,
) -> None:
    files = files_of(scan(name))
    store = StudyStore(tmp_path)
    headers = stored(store, files)
    geometry = examine_series(headers, LIMITS)
    assert isinstance(geometry, SeriesGeometry), geometry
    volume = load_volume(geometry, headers, store)
    assert isinstance(volume, Volume), volume
    assert (volume.array.shape, volume.voxel_mm) == (
        expected[0],
        pytest.approx(expected[1], abs=1e-5),
    )
    by_uid = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, files)}
    for k, uid in enumerate(volume.instances):
        data = by_uid[uid]
        slope = float(data.get("RescaleSlope", 1))
        values = data.pixel_array * slope + float(data.get("RescaleIntercept", 0))
        assert np.array_equal(volume.values()[k], values.astype(np.float32))
        position = (volume.affine @ [0, 0, k, 1])[:3]
        # The scanner's own positions leave its own line by some nanometres.
        np.testing.assert_allclose(position, data.ImagePositionPatient, atol=2e-5)


@pytest.mark.parametrize("name", ["siemens-mr-mosaic-jpeg", "siemens-mr-mosaic-jpeg2000"])
def test_compressed_pixels_of_a_scanner_decode_as_by_pydicom(
    name: str, scan: Scan, tmp_path: Path
) -> None:
    # One mosaic seen as one plane: decoding alone is looked at here.
    files = files_of(scan(name))[:1]
    store = StudyStore(tmp_path)
    headers = stored(store, files)
    volume = load(_one_plane(headers[0]), headers, store)
    assert isinstance(volume, Volume), volume
    assert np.array_equal(volume.array[0], pydicom.dcmread(files[0]).pixel_array)


def _one_plane(header: InstanceHeader) -> SeriesGeometry:
    from services.imaging import Plane

    rows, columns = (int((header.numbers(name) or (0,))[0]) for name in ("Rows", "Columns"))
    plane = Plane(header.sop_instance_uid, (0.0, 0.0, 0.0), 0.0)
    return SeriesGeometry(
        (plane,), (1, 0, 0), (0, 1, 0), (1, 1), 1.0, rows, columns, np.eye(4), "2.25.1"
    )
