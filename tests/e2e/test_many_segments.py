"""Seventeen segments on T1-weighted MR, a mask by another network first: images in, SEG and SR out.

The published networks of brainchop, on a part of its own head; so the patches are smaller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from models.building.reference_volumes import ReferenceVolume, read_nifti
from services.common.identity import derived_uid
from services.imaging import SeriesAttributes, Volume, write_mr_series
from tests.conftest import Scan
from tests.e2e.altered_recipes import recipe, served
from tests.e2e.stack import SEG, SR, StackUnderTest

# To the left, to the feet, to the front: a side of the head, from air to the deep structures.
PART = (slice(44, 140), slice(92, 180), slice(76, 172))
PATCHES = {"mask": [96, 88, 96], "tissue": [92, 96, 100]}
STUDY = derived_uid("e2e", "many-segments")


@pytest.fixture(scope="module")
def part(weights: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of the head as a NIfTI file."""
    head: nibabel.Nifti1Image = nibabel.load(weights("brainchop") / "t1_crop.nii.gz")  # pyright: ignore[reportAssignmentType, reportPrivateImportUsage]
    cut = head.slicer[PART]
    file = tmp_path_factory.mktemp("part") / "case.nii.gz"
    nibabel.save(cut, file)  # pyright: ignore[reportPrivateImportUsage]
    return file


@pytest.fixture(scope="module")
def stack(
    part: Path, weights: Scan, tmp_path_factory: pytest.TempPathFactory
) -> Generator[StackUnderTest]:
    """A stack that serves the recipe, whose builds were compared on the part."""
    manifest = recipe("brain-tissue")
    for name, patch in PATCHES.items():
        manifest["networks"][name]["patch"] = patch
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    file = {"path": part.name, "bytes": len(content), "sha256": digest}
    del manifest["sources"]["pydeface"]
    manifest["sources"]["beside"] = {"kind": "folder", "licence": "MIT", "files": [file]}
    parity = manifest["acceptance"]["parity"]
    parity["case"] = {"source": "beside", "path": part.name, "role": "image"}
    mirror = weights("brainchop").parent
    with served(tmp_path_factory.mktemp("many-segments"), manifest, mirror, part) as running:
        yield running


@pytest.fixture(scope="module")
def head(part: Path) -> ReferenceVolume:
    return read_nifti(part)


@pytest.fixture(scope="module")
def done(
    stack: StackUnderTest, head: ReferenceVolume, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("study") / "t1"
    attributes = SeriesAttributes(
        study_uid=STUDY,
        series_uid=derived_uid("e2e", "many-segments", "t1"),
        frame_of_reference_uid=derived_uid("e2e", "many-segments", "frame"),
        patient_name="Part^Head",
        patient_id="PART-1",
        study_date="20260115",
        series_description="T1 MPRAGE",
        body_part_examined="HEAD",
        manufacturer="Axial tests",
    )
    write_mr_series(Volume(head.pixels, head.affine_lps), folder, attributes)
    stack.send(folder)
    return stack.wait_until_done(STUDY)


def test_the_segmentation_has_each_structure_where_it_is(
    stack: StackUnderTest, done: dict[str, Any], head: ReferenceVolume
) -> None:
    assert [fate["fate"] for fate in done["fate"]] == ["processed"], done
    (data,) = stack.in_pacs(STUDY, SEG)
    names = {str(item.SegmentLabel): int(item.SegmentNumber) for item in data.SegmentSequence}
    deep = ("Thalamus", "Caudate nucleus", "Putamen", "Globus pallidus", "Hippocampus")
    assert {"Cerebral white matter", "Cerebral cortex", *deep} <= names.keys()
    found = hd.seg.Segmentation.from_dataset(data)
    volume = found.get_volume(combine_segments=True)

    def at(segment: str) -> NDArray[np.float64]:
        """The middle of a segment, LPS."""
        places = np.argwhere(volume.array == names[segment]).mean(axis=0)
        return np.asarray((volume.affine @ [*places, 1.0])[:3])

    # The thalamus lies behind the caudate nucleus' head, and above the hippocampus.
    assert at("Thalamus")[1] > at("Putamen")[1] > at("Caudate nucleus")[1]
    assert at("Hippocampus")[2] < at("Thalamus")[2] < at("Caudate nucleus")[2]
    # Of grey and white by the image itself: white matter is brighter in T1.
    brighter = head.pixels[_stored(volume, head) == names["Cerebral white matter"]].mean()
    assert brighter > 1.2 * head.pixels[_stored(volume, head) == names["Cerebral cortex"]].mean()


def _stored(volume: hd.Volume, head: ReferenceVolume) -> NDArray[np.uint8]:
    """The segments on the head's own voxels [k, j, i]; frames without any are left out there."""
    labels = np.zeros(head.pixels.shape, np.uint8)
    places = np.argwhere(volume.array > 0)
    points = np.c_[places, np.ones(len(places))] @ np.asarray(volume.affine).T
    there = np.rint(points @ np.linalg.inv(head.affine_lps).T)[:, 2::-1].astype(int)
    labels[tuple(there.T)] = volume.array[tuple(places.T)]
    return labels


def test_the_report_has_the_volume_of_each(stack: StackUnderTest, done: dict[str, Any]) -> None:
    (report,) = stack.in_pacs(STUDY, SR)
    document = hd.sr.Comprehensive3DSR.from_dataset(report)
    measured = document.content.get_volumetric_roi_measurement_groups()  # type: ignore[union-attr]
    volumes = [float(group.get_measurements()[0].value) for group in measured]
    (job,) = done["jobs"]
    told = [each["value"] for each in job["measurements"]]
    assert len(told) == 17
    assert volumes == pytest.approx([value for value in told if value is not None], rel=1e-4)
