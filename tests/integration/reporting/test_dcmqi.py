"""dcmqi reads what we write: its own DICOM toolkit, its own geometry, its own idea of TID 1500."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN, Form
from tests.builders.forms import form_of
from tests.builders.ras import lps_from_ras
from tests.builders.reporting import (
    analysis_of,
    blobs,
    ensemble_manifest,
    numbers_of_members,
    series_in,
    three_segments,
)

TOOLS = Path(sys.executable).parent
SHAPE = (9, 14, 11)

pytestmark = pytest.mark.skipif(
    not (TOOLS / "segimage2itkimage").exists(),
    reason="needs dcmqi's tools beside the interpreter (package dcmqi)",
)


@pytest.mark.parametrize("form", [PLAIN, form_of("keep_empty_frames")], ids=["plain", "all-frames"])
@pytest.mark.parametrize(
    "orientation", ["axial", "sagittal", "coronal", "oblique", "flipped", "feet-first"]
)
def test_r22_dcmqi_reads_every_voxel_at_its_place_in_the_patient(
    tmp_path: Path, orientation: str, form: Form
) -> None:
    files = series_in(tmp_path / "series", orientation, SHAPE)
    labels = blobs(SHAPE, (1, 3))
    analysis = analysis_of(files, labels, three_segments())
    found = read_by_dcmqi(tmp_path, encode_segmentation(analysis, form, 9000))
    assert set(found) == {"1", "2"}
    for place, number in (("1", 1), ("2", 3)):
        voxels = voxels_on_grid(found[place], analysis)
        np.testing.assert_array_equal(voxels, labels == number)


def test_dcmqi_reads_a_real_scan(tmp_path: Path, scan: Any) -> None:
    """A sagittal oblique head of 170 slices as a scanner wrote it, every second voxel labelled."""
    from tests.builders.reporting import in_slice_order

    folder = scan("philips-mr-mprage-classic")
    files = in_slice_order(sorted(path for path in folder.rglob("*") if path.is_file()))
    slices = len(files)
    labels = np.zeros((slices, 256, 256), np.uint8)
    labels[20:150, 40:200, 60:180] = 1
    labels[::3, ::2, ::5] = 0
    analysis = analysis_of(files, labels)
    found = read_by_dcmqi(tmp_path, encode_segmentation(analysis, PLAIN, 9000))
    np.testing.assert_array_equal(voxels_on_grid(found["1"], analysis), labels == 1)


def test_s3_dcmqi_reads_the_report(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "oblique", SHAPE)
    analysis = analysis_of(files, blobs(SHAPE, (1, 3)), three_segments())
    report = read_report(tmp_path, encode_report(analysis, PLAIN, 9001, Context()))
    groups = report["Measurements"]
    measured = {
        group["TrackingIdentifier"]: float(item["value"])
        for group in groups
        for item in group["measurementItems"]
    }
    assert measured == {
        f"brain-extraction: {value.segment_label}": pytest.approx(value.value, rel=1e-6)
        for value in analysis.values
        if value.value is not None
    }
    assert [group["ReferencedSegment"] for group in groups if group["measurementItems"]] == [1, 2]
    assert report["VerificationFlag"] == "UNVERIFIED"
    assert report["CompletionFlag"] == "COMPLETE"


def test_dcmqi_reads_a_report_whose_volumes_have_intervals(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "oblique", SHAPE)
    volumes = {1: 2.0, 2: 3.0, 3: 1.0, 4: 0.0}
    numbers = numbers_of_members(
        volume_ml=volumes,
        volume_low_ml={number: 0.5 * ml for number, ml in volumes.items()},
        volume_high_ml={number: 2.0 * ml for number, ml in volumes.items()},
    )
    labels = blobs(SHAPE, (1, 2, 3))
    analysis = analysis_of(files, labels, ensemble_manifest(), numbers=numbers)
    report = read_report(tmp_path, encode_report(analysis, PLAIN, 9001, Context()))
    measured = [
        float(item["value"])
        for group in report["Measurements"]
        for item in group["measurementItems"]
    ]
    known = [each.value for each in analysis.values if each.value is not None]
    assert measured == pytest.approx(known, rel=1e-6)
    assert all(each.low is not None for each in analysis.values if each.value is not None)


def read_by_dcmqi(folder: Path, segmentation: bytes) -> dict[str, Any]:
    """The segments of a SEG as dcmqi writes them out, by segment number."""
    seg, out = folder / "seg.dcm", folder / "out"
    seg.write_bytes(segmentation)
    out.mkdir()
    run(
        "segimage2itkimage",
        *("--inputDICOM", seg, "--outputDirectory", out, "--outputType", "nii", "--prefix", "s"),
    )
    return {
        file.name.removeprefix("s-").removesuffix(".nii.gz"): nibabel.load(file)
        for file in out.glob("s-*.nii.gz")
    }


def voxels_on_grid(image: Any, analysis: Analysis) -> NDArray[np.bool_]:
    """An image of dcmqi's as bool [k, j, i] on the source's grid, by patient coordinates."""
    affine = lps_from_ras(image.affine)
    indices = np.argwhere(np.asanyarray(image.dataobj) > 0)
    places = np.c_[indices, np.ones(len(indices))] @ affine.T
    on_grid = (places @ np.linalg.inv(analysis.source.affine).T)[:, :3]
    nearest = np.rint(on_grid).astype(int)
    assert np.abs(on_grid - nearest).max(initial=0.0) < 1e-3
    voxels = np.zeros(analysis.source.shape, bool)
    i, j, k = nearest.T
    voxels[k, j, i] = True
    assert int(voxels.sum()) == len(indices)
    return voxels


def read_report(folder: Path, report: bytes) -> dict[str, Any]:
    """A report as dcmqi understands it."""
    file, out = folder / "sr.dcm", folder / "sr.json"
    file.write_bytes(report)
    run("tid1500reader", "--inputDICOM", file, "--outputMetadata", out)
    return json.loads(out.read_text())


def run(tool: str, *arguments: object) -> None:
    """Runs a tool of dcmqi; its complaint is the failure."""
    done = subprocess.run(
        [str(TOOLS / tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
