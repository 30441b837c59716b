"""An ensemble on a head CT, tilted and unevenly spaced: images in, segmentation and report out.

Two of the twelve published members, on a part of a real head with a made lesion in it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from tests.builders.ct_heads import Lesion, study_uid, write_part
from tests.conftest import Scan
from tests.e2e.altered_recipes import recipe, served
from tests.e2e.stack import SEG, SR, StackUnderTest
from tests.unit.reporting.reading import groups, named

MEMBERS = ("member-1", "member-7")
LESION = Lesion(centre_mm=(15.0, 0.0, 100.0), radii_mm=(11.0, 12.0, 13.0), hu=66.0)
# Slices and pixels around the lesion: what two members take some seconds for.
SLICES, ROWS, COLUMNS = slice(8, 25), slice(195, 325), slice(245, 345)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, weights: Scan) -> Generator[StackUnderTest]:
    """A stack that serves the published model with two members alone."""
    manifest = recipe("ich-ct")
    manifest["networks"] = {name: manifest["networks"][name] for name in MEMBERS}
    read = {network["weights"]["path"] for network in manifest["networks"].values()}
    for source in manifest["sources"].values():
        source["files"] = [file for file in source["files"] if file["path"] in read]
    (infer,) = (step for step in manifest["plan"] if step["do"] == "infer")
    infer["members"] = list(MEMBERS)
    mirror = weights("blast-ct-v1").parent
    with served(tmp_path_factory.mktemp("ensemble"), manifest, mirror) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Done:
    """A finished study: as the gateway tells of it, and where the lesion was painted, by slice."""

    study: dict[str, Any]
    painted: dict[str, NDArray[np.bool_]]

    @property
    def uid(self) -> str:
        """The Study Instance UID."""
        return str(self.study["study_uid"])


@pytest.fixture(scope="module")
def done(stack: StackUnderTest, scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Done:
    files = sorted(scan("ge-ct-head-tilted").rglob("*.dcm"), key=_height)[SLICES]
    folder = tmp_path_factory.mktemp("study") / "head"
    painted = write_part(files, folder, "ensemble", ROWS, COLUMNS, [LESION])
    stack.send(folder)
    return Done(stack.wait_until_done(study_uid("ensemble")), painted)


def _height(file: Path) -> float:
    return float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])


def test_the_lesion_is_found_on_the_slices_it_was_painted_on(
    stack: StackUnderTest, done: Done
) -> None:
    assert [fate["fate"] for fate in done.study["fate"]] == ["processed"], done.study
    (data,) = stack.in_pacs(done.uid, SEG)
    by_label = {str(item.SegmentLabel): int(item.SegmentNumber) for item in data.SegmentSequence}
    assert {"Intraparenchymal haemorrhage", "Perilesional oedema"} <= by_label.keys()
    blood = [number for label, number in by_label.items() if "haemorrhage" in label]
    array = hd.seg.Segmentation.from_dataset(data).get_pixels_by_source_instance(
        list(done.painted), assert_missing_frames_are_empty=True, segment_numbers=blood
    )
    found, truth = array.any(axis=-1), np.stack(list(done.painted.values()))
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.5


def test_the_report_has_every_segments_volume(stack: StackUnderTest, done: Done) -> None:
    (report,) = stack.in_pacs(done.uid, SR)
    document = hd.sr.Comprehensive3DSR.from_dataset(report)
    measured = document.content.get_volumetric_roi_measurement_groups()  # type: ignore[union-attr]
    volumes = [float(group.get_measurements()[0].value) for group in measured]
    told = done.study["jobs"][0]["measurements"]
    known = [each["value"] for each in told if each["value"] is not None]
    assert volumes == pytest.approx(known, rel=1e-4)
    assert len(told) == 4


def test_beside_each_volume_stands_what_the_networks_find_alone(
    stack: StackUnderTest, done: Done
) -> None:
    """Tilted, uneven slices: the model never saw the grid on which the volume is reported."""
    (job,) = done.study["jobs"]
    numbers = job["numbers"]["uncertainty"]
    assert numbers["members"] == len(MEMBERS)
    (report,) = stack.in_pacs(done.uid, SR)
    for group, told in zip(groups(report), job["measurements"], strict=True):
        segment = str(told["segment_number"])
        if told["value"] is None:
            assert not named(group, "118565006")
            continue
        assert 0.0 <= numbers["disagreement"][segment] <= 1.0
        assert 0.0 < numbers["mutual_information"][segment] < numbers["entropy"][segment] < 1.0
        assert told["low"] <= told["value"] <= told["high"]
        assert told["low"] < told["high"], "two networks that agree on every voxel prove nothing"
        (volume,) = named(group, "118565006")
        (below,), (above,) = named(volume, "371885007"), named(volume, "371886008")
        said = [float(each.MeasuredValueSequence[0].NumericValue) for each in (below, above)]
        assert said == pytest.approx(
            [told["value"] - told["low"], told["high"] - told["value"]], abs=1e-4
        )
        # As the whole was counted by the model and on the slices, so were the members.
        scale = told["value"] / numbers["volume_ml"][segment]
        high = max(scale * numbers["volume_high_ml"][segment], told["value"])
        assert told["high"] == pytest.approx(high, rel=1e-3)
