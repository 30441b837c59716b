"""A cascade over four contrasts: images of four series in, one segmentation and report out.

brats17's three stages by its axial networks, on a part of a real glioma (TCGA-LGG, DU-7294; CC BY
3.0) with smaller patches.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest

from models.building.reference_volumes import read_nifti
from services.common.identity import derived_uid
from services.imaging import SeriesAttributes, Volume, write_mr_series
from tests.builders.scans import shared_data
from tests.conftest import Scan
from tests.e2e.altered_recipes import recipe, served
from tests.e2e.stack import SEG, SR, StackUnderTest

# Each contrast's file, and its description, which the roles are told by.
CONTRASTS = {"fla": "FLAIR", "t1": "T1", "t1c": "T1 post contrast", "t2": "T2"}
# In the tumour; planes by the file's slices, rows and columns.
PART = (slice(92, 132), slice(72, 132), slice(72, 128))
PATCH = [19, 48, 44]
STUDY = derived_uid("e2e", "cascade")


def of_one_view(manifest: Any) -> None:
    """Leave the other two views of each stage out, whose mean is then that of one."""
    networks = manifest["networks"]
    manifest["networks"] = {
        name: {**network, "patch": PATCH}
        for name, network in networks.items()
        if name.endswith("-axial")
    }
    read = {network["weights"]["path"] for network in manifest["networks"].values()}
    read |= {
        one for network in manifest["networks"].values() for one in network["weights"]["beside"]
    }
    for source in manifest["sources"].values():
        source["files"] = [file for file in source["files"] if file["path"] in read]
    plan: list[Any] = []
    for step in manifest["plan"]:
        if step["do"] == "infer":
            (member,) = step["members"]
            if member in manifest["networks"]:
                plan.append({**step, "out": f"{member.removesuffix('-axial')}-scores"})
        elif not step["out"].endswith("-scores"):
            plan.append(step)
    manifest["plan"] = plan


@pytest.fixture(scope="module")
def images() -> Path:
    folder = shared_data() / "images" / "tcga-du-7294"
    if not folder.is_dir():
        pytest.skip("needs the glioma's images (TCGA-LGG, DU-7294) in the shared folder")
    return folder


@pytest.fixture(scope="module")
def stack(weights: Scan, tmp_path_factory: pytest.TempPathFactory) -> Generator[StackUnderTest]:
    manifest = recipe("glioma")
    of_one_view(manifest)
    folder = tmp_path_factory.mktemp("cascade")
    (folder / "mirror").mkdir()
    (folder / "mirror" / "brats17").symlink_to(weights("brats17-msnet"))
    with served(folder, manifest, folder / "mirror") as running:
        yield running


@pytest.fixture(scope="module")
def done(
    stack: StackUnderTest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("study")
    for number, (file, description) in enumerate(CONTRASTS.items(), 1):
        scan = read_nifti(images / f"{file}.nii.gz")
        pixels = np.ascontiguousarray(scan.pixels[PART]).round().clip(0, 65535)
        affine = scan.affine_lps.copy()
        affine[:3, 3] = (affine @ [*(part.start for part in reversed(PART)), 1.0])[:3]
        attributes = SeriesAttributes(
            study_uid=STUDY,
            series_uid=derived_uid("e2e", "cascade", file),
            frame_of_reference_uid=derived_uid("e2e", "cascade", "frame"),
            patient_name="Four^Contrasts",
            patient_id="DU-7294",
            study_date="20260115",
            series_number=number,
            series_description=description,
            body_part_examined="BRAIN",
            manufacturer="Axial tests",
        )
        write_mr_series(Volume(pixels.astype(np.float32), affine), folder / file, attributes)
    stack.send(folder)
    return stack.wait_until_done(STUDY)


def test_each_series_is_told_what_came_of_it(done: dict[str, Any]) -> None:
    assert [fate["fate"] for fate in done["fate"]] == ["processed"] * 4, done
    assert len({fate["job_uid"] for fate in done["fate"]}) == 1
    assert sorted(fate["series_number"] for fate in done["fate"]) == ["1", "2", "3", "4"]


def test_the_tumour_lies_on_the_slices_of_flair(
    stack: StackUnderTest, done: dict[str, Any], images: Path
) -> None:
    (data,) = stack.in_pacs(STUDY, SEG)
    series = {str(each.SeriesInstanceUID) for each in data.ReferencedSeriesSequence}
    assert series == {derived_uid("e2e", "cascade", "fla")}
    found = hd.seg.Segmentation.from_dataset(data)
    labels = {str(item.SegmentLabel) for item in data.SegmentSequence}
    assert "Oedema around the tumour" in labels
    volume = found.get_volume(combine_segments=True)
    flair = read_nifti(images / "fla.nii.gz")
    places = np.argwhere(volume.array > 0)
    points = np.c_[places, np.ones(len(places))] @ np.asarray(volume.affine).T
    there = np.rint(points @ np.linalg.inv(flair.affine_lps).T)[:, 2::-1].astype(int)
    inside = flair.pixels[tuple(there.T)]
    part = flair.pixels[PART]
    # A tumour is bright in FLAIR.
    assert inside.mean() > 1.3 * part[part > 0].mean()


def test_the_report_has_the_volumes(stack: StackUnderTest, done: dict[str, Any]) -> None:
    (report,) = stack.in_pacs(STUDY, SR)
    document = hd.sr.Comprehensive3DSR.from_dataset(report)
    measured = document.content.get_volumetric_roi_measurement_groups()  # type: ignore[union-attr]
    (job,) = done["jobs"]
    told = [each["value"] for each in job["measurements"] if each["value"] is not None]
    volumes = [
        float(each.get_measurements()[0].value) for each in measured if each.get_measurements()
    ]
    assert volumes == pytest.approx(told, rel=1e-4)
    assert sum(volumes) > 1.0
