"""Real scans end as the right volumes, or with the right reason.

dcm2niix is the independent reader: its volumes are compared voxel by voxel at their places in the
patient, so that neither the order of axes nor their direction has to agree.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.headers import HeaderError, InstanceHeader
from services.common.store import StudyStore
from services.imaging import (
    GeometryLimits,
    SeriesGeometry,
    SplitSeries,
    Volume,
    examine_series,
    images_of,
    load_volume,
    open_stored_images,
    read_series,
    split_volumes,
)
from services.imaging.header_files import read_headers
from tests.builders.ras import lps_from_ras
from tests.builders.scans import listed_scans
from tests.builders.series import headers_of, stored

Scan = Callable[[str], Path]
LIMITS = GeometryLimits("a model")
DCM2NIIX = Path(sys.executable).parent / "dcm2niix"

# What the series is for a model that wants one regular volume per series, without a selector.
REFUSED = {
    "ge-ct-head-tilted": "gantry_tilt",
    "ge-mr-epi-4d": "several_volumes",
    "philips-ct-localizer": "localizer",
    "philips-mr-asl-source-enhanced": "several_volumes",
    "philips-mr-fieldmap-classic": "several_volumes",
    "philips-mr-fieldmap-enhanced": "several_volumes",
    "siemens-mr-mosaic-axial": "several_volumes",
    "siemens-mr-mosaic-coronal": "several_volumes",
    "siemens-mr-mosaic-sagittal": "several_volumes",
    "siemens-mr-mosaic-jpeg": "several_volumes",
    "siemens-mr-mosaic-jpeg2000": "several_volumes",
    "siemens-mr-xa10-rest1-enhanced": "several_volumes",
    "canon-mr-dwi-classic-first-uid-last": "several_volumes",
    "uih-mr-dti-vframe": "several_volumes",
}
# Its images were taken their UIDs: they are pictures for tests of results, and are not registered.
WITHOUT_UIDS = frozenset({"siemens-ct-abdomen-jpeg2000"})
# name -> number of volumes, what tells them apart, shape, voxel size (i, j, k) in mm
VOLUMES: dict[str, tuple[int, str, tuple[int, int, int], tuple[float, float, float]]] = {
    "ge-mr-epi-4d": (10, "InstanceNumber", (15, 64, 64), (3.75, 3.75, 5.0)),
    "philips-ct-phantom-201": (1, "", (28, 512, 512), (0.451171875, 0.451171875, 5.0)),
    "philips-mr-asl-source-enhanced": (6, "DimensionIndexValues", (40, 96, 96), (2.5, 2.5, 4.0)),
    "philips-mr-fieldmap-classic": (
        4,
        "EchoTime and ImageType",
        (53, 80, 80),
        (3.0, 3.0, 3.0),
    ),
    "philips-mr-fieldmap-enhanced": (
        4,
        "EchoTime and ComplexImageComponent",
        (53, 80, 80),
        (3.0, 3.0, 3.0),
    ),
    "philips-mr-mprage-classic": (1, "", (170, 256, 256), (1.0, 1.0, 1.0)),
    "siemens-mr-mosaic-axial": (2, "AcquisitionNumber", (35, 64, 64), (3.25, 3.25, 3.6)),
    "siemens-mr-mosaic-coronal": (2, "AcquisitionNumber", (36, 64, 64), (3.25, 3.25, 3.6)),
    "siemens-mr-mosaic-jpeg": (2, "AcquisitionNumber", (36, 86, 86), (2.69767, 2.69767, 3.6)),
    "siemens-mr-mosaic-jpeg2000": (2, "AcquisitionNumber", (36, 86, 86), (2.69767, 2.69767, 3.6)),
    "siemens-mr-mosaic-sagittal": (2, "AcquisitionNumber", (36, 64, 64), (3.203125, 3.203125, 3.6)),
    "philips-mr-tse-with-raw-data": (1, "", (12, 256, 256), (1.0, 1.0, 5.0)),
    "siemens-mr-xa10-rest1-enhanced": (
        4,
        "TemporalPositionIdentifier",
        (6, 64, 64),
        (3.375, 3.375, 2.4),
    ),
    "canon-mr-dwi-classic-first-uid-last": (
        3,
        "DiffusionGradientOrientation",
        (6, 80, 80),
        (3.0, 3.0, 3.0),
    ),
    "uih-mr-dti-vframe": (17, "DiffusionGradientOrientation", (20, 64, 64), (3.5, 3.5, 4.2)),
    "siemens-mr-xa30-classic": (1, "", (63, 86, 86), (2.23256, 2.23256, 2.2)),
    "siemens-mr-xa30-enhanced": (1, "", (63, 86, 86), (2.23256, 2.23256, 2.2)),
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_scan_is_refused_with_its_reason(
    name: str, reason: str, scan: Scan, tmp_path: Path
) -> None:
    images = opened(scan(name), StudyStore(tmp_path))
    refusal = examine_series(images, LIMITS)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


def test_every_scan_of_the_collection_is_expected_here() -> None:
    archives = set(listed_scans())
    assert archives == REFUSED.keys() | VOLUMES.keys() | WITHOUT_UIDS


@pytest.mark.parametrize("name", sorted(WITHOUT_UIDS))
def test_images_without_uids_are_no_objects(name: str, scan: Scan) -> None:
    with pytest.raises(HeaderError, match="SOPInstanceUID"):
        read_headers(files_of(scan(name)))


def test_every_volume_has_the_b_value_of_its_own_images(scan: Scan, tmp_path: Path) -> None:
    split, volumes = loaded(scan("canon-mr-dwi-classic-first-uid-last"), tmp_path / "canon")
    told = [volume.attributes["DiffusionBValue"] for volume in split.volumes]
    assert told == ["0.0", "1500.0", "1500.0"]
    assert volumes[0].values().mean() > 2 * volumes[1].values().mean()
    split, _ = loaded(scan("uih-mr-dti-vframe"), tmp_path / "uih")
    told = [float(str(volume.attributes["DiffusionBValue"])) for volume in split.volumes]
    assert (told[0] < 5, all(900 < value < 1100 for value in told[1:])) == (True, True)


def test_field_map_names_its_four_volumes(scan: Scan) -> None:
    headers = headers_of(files_of(scan("philips-mr-fieldmap-classic")))
    refusal = examine_series(headers, LIMITS)
    assert isinstance(refusal, Refusal)
    assert refusal.values == {"volumes": 4, "attribute": "EchoTime, ImageType"}


def test_tilted_head_is_uneven_too_where_tilt_is_accepted(scan: Scan) -> None:
    headers = headers_of(files_of(scan("ge-ct-head-tilted")))
    limits = GeometryLimits("a model", accepts_gantry_tilt=True)
    refusal = examine_series(headers, limits)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "uneven_spacing"


@pytest.mark.parametrize("name", VOLUMES)
def test_scan_splits_into_the_right_volumes(name: str, scan: Scan, tmp_path: Path) -> None:
    number, told_by, shape, voxel_mm = VOLUMES[name]
    split, volumes = loaded(scan(name), tmp_path)
    assert (len(volumes), " and ".join(split.told_by)) == (number, told_by)
    for volume, source in zip(volumes, split.volumes, strict=True):
        assert source.whole
        assert volume.array.dtype == np.int16
        assert (volume.array.shape, volume.voxel_mm) == (shape, pytest.approx(voxel_mm, abs=1e-5))


@pytest.mark.skipif(not DCM2NIIX.exists(), reason="needs dcm2niix beside the interpreter")
@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_those_of_dcm2niix_at_their_places_in_the_patient(
    name: str, scan: Scan, tmp_path: Path
) -> None:
    _, volumes = loaded(scan(name), tmp_path / "store")
    others = by_dcm2niix(scan(name), tmp_path)
    assert len(others) == len(volumes)
    for volume in volumes:
        ours = volume.values()
        same = [other for other in others if agrees(ours, volume.affine, *other)]
        assert len(same) == 1, f"{len(same)} volumes of dcm2niix are this one"
    # Time points come in the order of time.
    if name.startswith(("ge-mr", "siemens-mr-mosaic")):
        for volume, other in zip(volumes, others, strict=True):
            assert agrees(volume.values(), volume.affine, *other)


@pytest.mark.parametrize("name", ["siemens-mr-xa30", "philips-mr-fieldmap"])
def test_classic_and_enhanced_twins_are_equal_volumes(
    name: str, scan: Scan, tmp_path: Path
) -> None:
    _, classic = loaded(scan(f"{name}-classic"), tmp_path / "classic")
    _, enhanced = loaded(scan(f"{name}-enhanced"), tmp_path / "enhanced")
    assert len(classic) == len(enhanced)
    for one in classic:
        (twin,) = (other for other in enhanced if np.array_equal(other.array, one.array))
        assert twin.rescale == one.rescale
        np.testing.assert_array_equal(twin.values(), one.values())
        np.testing.assert_allclose(twin.affine, one.affine, atol=1e-6)


def test_rescaled_values_and_positions_are_those_of_the_files(scan: Scan, tmp_path: Path) -> None:
    files = files_of(scan("philips-mr-mprage-classic"))
    _, (volume,) = loaded(scan("philips-mr-mprage-classic"), tmp_path)
    by_uid = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, files)}
    values = volume.values()
    for k, uid in enumerate(volume.instances):
        data = by_uid[uid]
        expected = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.array_equal(values[k], expected.astype(np.float32))
        position = (volume.affine @ [0, 0, k, 1])[:3]
        # The scanner's own positions leave its own line by some nanometres.
        np.testing.assert_allclose(position, data.ImagePositionPatient, atol=2e-5)


@pytest.mark.parametrize("name", ["siemens-mr-mosaic-jpeg", "siemens-mr-mosaic-jpeg2000"])
def test_compressed_mosaic_equals_its_uncompressed_meaning(
    name: str, scan: Scan, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in files_of(scan(name)):
        data = pydicom.dcmread(file)
        data.decompress(generate_instance_uid=False)
        data.save_as(plain / file.name)
    _, compressed = loaded(scan(name), tmp_path / "compressed-store")
    _, uncompressed = loaded(plain, tmp_path / "plain-store")
    for one, other in zip(compressed, uncompressed, strict=True):
        np.testing.assert_array_equal(one.array, other.array)
        np.testing.assert_array_equal(one.affine, other.affine)


@pytest.mark.parametrize("name", VOLUMES)
def test_scanned_headers_are_those_of_the_library(name: str, scan: Scan) -> None:
    files = files_of(scan(name))
    assert read_headers(files) == headers_of(files)


def test_files_of_a_series_are_its_volume(scan: Scan, tmp_path: Path) -> None:
    folder = scan("siemens-mr-xa30-enhanced")
    _, (expected,) = loaded(folder, tmp_path)
    volume = read_series(files_of(folder))
    assert isinstance(volume, Volume), volume
    np.testing.assert_array_equal(volume.array, expected.array)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def opened(folder: Path, store: StudyStore) -> tuple[InstanceHeader, ...]:
    """The planes of a scan, registered and opened."""
    found = images_of(stored(store, files_of(folder)))
    images = open_stored_images(found.headers, store)
    assert isinstance(images, tuple), images
    return images


def loaded(folder: Path, root: Path) -> tuple[SplitSeries, list[Volume]]:
    """All volumes of a scan, loaded from a store."""
    store = StudyStore(root)
    split = split_volumes(opened(folder, store))
    volumes: list[Volume] = []
    for source in split.volumes:
        geometry = examine_series(source.images, LIMITS)
        assert isinstance(geometry, SeriesGeometry), geometry
        volume = load_volume(geometry, source.images, store)
        assert isinstance(volume, Volume), volume
        volumes.append(volume)
    return split, volumes


def by_dcm2niix(folder: Path, out: Path) -> list[tuple[NDArray[Any], NDArray[np.float64]]]:
    """dcm2niix's volumes as (array [i, j, k], affine to LPS mm), time points as volumes."""
    # -p n: real-world values by RescaleSlope, not by Philips' private scale.
    command = [DCM2NIIX, "-p", "n", "-z", "n", "-b", "n", "-f", "%s_%e_%d", "-o", out, folder]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=120)
    volumes: list[tuple[NDArray[Any], NDArray[np.float64]]] = []
    for file in sorted(out.glob("*.nii")):
        image: Any = nibabel.load(file)
        affine = lps_from_ras(image.affine)
        array = np.asanyarray(image.dataobj)
        series: Sequence[NDArray[Any]] = (
            [array[..., t] for t in range(array.shape[3])] if array.ndim == 4 else [array]
        )
        volumes += [(each, affine) for each in series]
    return volumes


def agrees(
    ours: NDArray[np.float32],
    affine: NDArray[np.float64],
    other: NDArray[Any],
    other_affine: NDArray[np.float64],
) -> bool:
    """Whether both have the same values at the same places; places within a thousandth voxel."""
    to_ours = np.linalg.inv(affine) @ other_affine
    axes = np.rint(to_ours[:3, :3])
    # dcm2niix keeps its affine in float32.
    assert np.abs(to_ours[:3, :3] - axes).max() < 1e-4, to_ours
    indices = np.indices(other.shape).reshape(3, -1)
    places = axes @ indices + to_ours[:3, 3:]
    nearest = np.rint(places).astype(int)
    assert np.abs(places - nearest).max() < 1e-2, np.abs(places - nearest).max()
    i, j, k = nearest
    return np.allclose(ours[k, j, i], other.reshape(-1), rtol=1e-5, atol=1e-3)
