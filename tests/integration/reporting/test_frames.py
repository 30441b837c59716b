"""Results on frames of enhanced objects, on tiles of mosaics, and on slices off the grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from models.manifest import Manifest
from services.imaging import (
    GeometryLimits,
    SeriesGeometry,
    Volume,
    examine_series,
    labels_on_source,
    open_images,
    read_volume,
    split_volumes,
)
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.measure import count_voxels, measure, voxel_histogram
from services.reporting.job import Job
from services.reporting.kinds.report.reading import read_groups
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.kinds.segmentation.packing import further_frames
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN, Form
from services.reporting.results import Made
from services.reporting.source.series import SourceSeries, load_source
from tests.builders.by_highdicom import report_by_highdicom, segmentation_by_highdicom
from tests.builders.forms import form_of
from tests.builders.reporting import Workplace, brain_manifest, workplace
from tests.builders.series import headers_of
from tests.integration.reporting.test_dcmqi import read_by_dcmqi, voxels_on_grid

# scan -> which of its volumes; all but the last two are read whole.
SCANS = {
    "siemens-mr-xa30-enhanced": 0,
    "philips-mr-fieldmap-enhanced": 1,
    "philips-mr-asl-source-enhanced": 3,
    "siemens-mr-mosaic-sagittal": 0,
    "siemens-mr-mosaic-jpeg2000": 1,
    "ge-mr-epi-4d": 4,
}


@pytest.mark.parametrize(("name", "number"), SCANS.items())
def test_results_on_one_volume_of_many_pass_every_check(
    name: str, number: int, scan: Any, tmp_path: Path
) -> None:
    place, geometry = _registered(scan(name), tmp_path, number)
    labels = _box(geometry)
    made = _make(place, geometry, labels)
    assert made.withholding is None
    voxel_mm3 = float(np.prod(geometry.pixel_spacing_mm)) * geometry.slice_spacing_mm
    assert made.values[0].value == pytest.approx(labels.sum() * voxel_mm3 / 1000, rel=1e-6)


@pytest.mark.parametrize("form", [(), ("keep_empty_frames",), ("key_slice",)], ids=str)
@pytest.mark.parametrize(("name", "number"), SCANS.items())
def test_objects_are_what_highdicom_writes_of_every_plane(
    name: str, number: int, form: tuple[str, ...], scan: Any, tmp_path: Path
) -> None:
    place, geometry = _registered(scan(name), tmp_path, number)
    _compare(_analysis(place, geometry, _box(geometry)), form_of(*form))


@pytest.mark.parametrize(("name", "number"), SCANS.items())
def test_r47_every_frame_names_the_frame_that_it_lies_on(
    name: str, number: int, scan: Any, tmp_path: Path
) -> None:
    place, geometry = _registered(scan(name), tmp_path, number)
    labels = _box(geometry)
    seg = _segmentation(place, _make(place, geometry, labels))
    with_voxels = [(1, int(k)) for k in np.flatnonzero(labels.any(axis=(1, 2)))]
    further = further_frames(with_voxels, len(labels), labels[0].size)
    shown = sorted(k for _, k in (*with_voxels, *further))
    for k, frame, pixels in zip(
        shown, seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True
    ):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        plane = geometry.planes[k]
        assert source.ReferencedSOPInstanceUID == plane.sop_instance_uid
        if "enhanced" in name:
            assert source.ReferencedFrameNumber == plane.frame
        else:
            assert "ReferencedFrameNumber" not in source
        assert source.SpatialLocationsPreserved == ("NO" if "mosaic" in name else "YES")
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, plane.position_mm, atol=1e-9)
        np.testing.assert_array_equal(pixels, labels[k])
    named = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    expected = {plane.sop_instance_uid for plane in geometry.planes}
    assert {item.ReferencedSOPInstanceUID for item in named} == expected
    assert len(named) == len(expected)


@pytest.mark.parametrize("name", ["siemens-mr-xa30", "philips-mr-fieldmap"])
def test_r47_classic_and_enhanced_sources_give_one_segmentation(
    name: str, scan: Any, tmp_path: Path
) -> None:
    made: list[pydicom.FileDataset] = []
    for form in ("classic", "enhanced"):
        folder = tmp_path / form
        folder.mkdir()
        place, geometry = _registered(scan(f"{name}-{form}"), folder, 0)
        made.append(_segmentation(place, _make(place, geometry, _box(geometry))))
    classic, enhanced = made
    np.testing.assert_array_equal(classic.pixel_array, enhanced.pixel_array)
    assert _positions(classic) == pytest.approx(_positions(enhanced), abs=1e-6)


def test_r47_dcmqi_reads_frames_at_their_place_in_the_patient(scan: Any, tmp_path: Path) -> None:
    place, geometry = _registered(scan("siemens-mr-xa30-enhanced"), tmp_path, 0)
    labels = _box(geometry)
    labels[::3, ::2, ::5] = 0
    analysis = _analysis(place, geometry, labels)
    found = read_by_dcmqi(tmp_path, encode_segmentation(analysis, PLAIN, 9000))
    np.testing.assert_array_equal(voxels_on_grid(found["1"], analysis), labels == 1)


def test_report_on_frames_names_them_and_draws_on_the_key_frame(scan: Any, tmp_path: Path) -> None:
    place, geometry = _registered(scan("philips-mr-fieldmap-enhanced"), tmp_path, 1)
    labels = _box(geometry)
    analysis = _analysis(place, geometry, labels)
    file = tmp_path / "sr.dcm"
    file.write_bytes(encode_report(analysis, form_of("key_slice"), 9001, Context()))
    report = pydicom.dcmread(file)
    library = _items(report, "111028")[0].ContentSequence[0]
    images = [item for item in library.ContentSequence if item.ValueType == "IMAGE"]
    assert len(images) == 1
    reference = images[0].ReferencedSOPSequence[0]
    assert sorted(reference.ReferencedFrameNumber) == sorted(
        plane.frame or 0 for plane in geometry.planes
    )
    assert read_groups(report)


def test_report_on_a_mosaic_draws_within_its_tile(scan: Any, tmp_path: Path) -> None:
    place, geometry = _registered(scan("siemens-mr-mosaic-sagittal"), tmp_path, 0)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[20, 10:20, 30:40] = 1
    analysis = _analysis(place, geometry, labels)
    report = pydicom.dcmread(
        _written(tmp_path, encode_report(analysis, form_of("key_slice"), 9001, Context()))
    )
    (region,) = _regions(report)
    tile = (geometry.planes[20].frame or 0) - 1
    top, left = tile // 6 * 64, tile % 6 * 64
    corners = np.array(region.GraphicData).reshape(-1, 2)
    assert corners.min(axis=0).tolist() == [left + 30, top + 10]
    assert corners.max(axis=0).tolist() == [left + 40, top + 20]


def test_labels_of_a_tilted_uneven_head_lie_on_every_source_slice(
    scan: Any, tmp_path: Path
) -> None:
    files = sorted(scan("ge-ct-head-tilted").rglob("*.dcm"))
    accepts = {"gantry_tilt": True, "uneven_spacing": True}
    limits = GeometryLimits("The test", accepts_gantry_tilt=True, accepts_uneven_spacing=True)
    place = workplace(tmp_path, files)
    geometry = examine_series(place.headers, limits)
    assert isinstance(geometry, SeriesGeometry)
    file_of = {h.sop_instance_uid: f for h, f in zip(place.headers, files, strict=True)}
    volume = read_volume(geometry, place.headers, lambda h: file_of[h.sop_instance_uid])
    assert isinstance(volume, Volume)
    # Bone, as a network on the regular grid would find it.
    labels = labels_on_source((volume.values() > 300).astype(np.uint8), geometry)
    manifest = _accepting(brain_manifest(), accepts)
    analysis = _analysis(place, geometry, labels, manifest)
    content = encode_segmentation(analysis, PLAIN, 9000)
    assert check_segmentation(_written(tmp_path, content), analysis, PLAIN) is None
    _compare(analysis, PLAIN)
    seg = pydicom.dcmread(_written(tmp_path, content))
    shown = np.flatnonzero(labels.any(axis=(1, 2)))
    np.testing.assert_array_equal(seg.pixel_array, labels[shown])
    sent = {h.sop_instance_uid: h.attributes["ImagePositionPatient"] for h in place.headers}
    for k, frame in zip(shown, seg.PerFrameFunctionalGroupsSequence, strict=True):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert [str(number) for number in position] == sent[geometry.planes[k].sop_instance_uid]


def _registered(folder: Path, tmp_path: Path, number: int) -> tuple[Workplace, SeriesGeometry]:
    """The scan as the listener keeps it, and the geometry of one of its volumes."""
    files = sorted(folder.rglob("*.dcm"))
    place = workplace(tmp_path, files)
    file_of = {h.sop_instance_uid: f for h, f in zip(headers_of(files), files, strict=True)}
    images = open_images(place.headers, lambda header: file_of[header.sop_instance_uid])
    assert isinstance(images, tuple), images
    volume = split_volumes(images).volumes[number]
    geometry = examine_series(volume.images, GeometryLimits("The test"))
    assert isinstance(geometry, SeriesGeometry), geometry
    return place, geometry


def _box(geometry: SeriesGeometry) -> NDArray[np.uint8]:
    slices, rows, columns = geometry.shape
    labels = np.zeros(geometry.shape, np.uint8)
    labels[slices // 5 : -slices // 5, rows // 4 : -rows // 3, columns // 5 : -columns // 2] = 1
    return labels


def _make(place: Workplace, geometry: SeriesGeometry, labels: NDArray[np.uint8]) -> Made:
    return place.make(_named(place.job(labels), geometry))


def _named(job: Job, geometry: SeriesGeometry) -> Job:
    """The job on the planes of one volume, as the orchestrator names them."""
    return replace(
        job,
        sop_instance_uids=tuple(plane.sop_instance_uid for plane in geometry.planes),
        frames=tuple(plane.frame or 0 for plane in geometry.planes),
    )


def _analysis(
    place: Workplace,
    geometry: SeriesGeometry,
    labels: NDArray[np.uint8],
    manifest: Manifest | None = None,
) -> Analysis:
    job = _named(place.job(labels, manifest), geometry)
    source = load_source(job, place.engine, place.store)
    assert isinstance(source, SourceSeries), source
    counts = count_voxels(voxel_histogram(labels), job.manifest)
    values = measure(job.manifest, counts, source.voxel_volume_mm3, source.steps)
    return Analysis(job, source, labels, counts, values)


def _compare(analysis: Analysis, form: Form) -> None:
    seg = encode_segmentation(analysis, form, 1)
    assert seg == segmentation_by_highdicom(analysis, form, 1)
    report = encode_report(analysis, form, 2, Context())
    assert report == report_by_highdicom(analysis, form, 2, Context())


def _accepting(manifest: Manifest, accepts: dict[str, bool]) -> Manifest:
    role = manifest.roles["image"]
    gate = role.gate.model_copy(
        update={"accepts": role.gate.accepts.model_copy(update=accepts), "min_slices": 1}
    )
    return manifest.model_copy(update={"roles": {"image": role.model_copy(update={"gate": gate})}})


def _segmentation(place: Workplace, made: Made) -> pydicom.FileDataset:
    assert made.withholding is None, made.withholding
    (seg,) = (each for each in made.results if each.kind == "SEG")
    return pydicom.dcmread(place.store.path(seg.store_key))


def _positions(seg: Dataset) -> list[float]:
    return [
        float(number)
        for frame in seg.PerFrameFunctionalGroupsSequence
        for number in frame.PlanePositionSequence[0].ImagePositionPatient
    ]


def _written(folder: Path, content: bytes) -> Path:
    file = folder / "made.dcm"
    file.write_bytes(content)
    return file


def _items(item: Dataset, code: str) -> list[Dataset]:
    return [
        child
        for child in item.ContentSequence
        if child.ConceptNameCodeSequence[0].CodeValue == code
    ]


def _regions(item: Dataset) -> list[Dataset]:
    children = item.get("ContentSequence") or []
    own = [child for child in children if child.ValueType == "SCOORD"]
    return own + [region for child in children for region in _regions(child)]
