"""Imported part-models give TotalSegmentator's own labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.importing import NotImportableError, Said, import_totalsegmentator
from models.manifest import lint_manifest
from models.manifest.plan.combine import Combine
from models.runtime.pipeline import Pipeline
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.nnunet_cases import PartsCase, unpacked_parts
from tests.integration.models.test_nnunet_import import BY_ROUNDING, DIFFERING, as_trained

pytestmark = EXPORTER_WARNS


@pytest.fixture
def parts(tmp_path: Path) -> PartsCase:
    return unpacked_parts(tmp_path / "results")


def _silent(step: str) -> None:
    """Report to nobody."""


def imported(parts: tuple[Path, ...], into: Path) -> Path:
    return import_totalsegmentator(parts, Said("whole", into, step=0.8), _silent).folder


def test_labels_are_totalsegmentators_own(parts: PartsCase, tmp_path: Path) -> None:
    folder = imported(parts.folders, tmp_path / "models")
    manifest = lint_manifest(folder)
    networks = as_trained(manifest, folder, tmp_path)
    found = Pipeline(manifest, networks, 1).run({"image": parts.scan}).labels
    assert found is not None
    for number in (0, 1, 2, 3):
        theirs = parts.labels == number
        assert theirs.sum() > 300, "a class that is hardly there shows nothing"
        assert int(((found == number) != theirs).sum()) <= DIFFERING * theirs.size
    assert int((found != parts.labels_single).sum()) <= BY_ROUNDING


def test_labels_are_numbered_through_and_have_the_codes_of_its_table(
    parts: PartsCase, tmp_path: Path
) -> None:
    manifest = lint_manifest(imported(parts.folders, tmp_path / "models"))
    assert [(one.number, one.label) for one in manifest.segments] == [
        (1, "Liver"),
        (2, "body"),
        (3, "Spleen"),
    ]
    assert [one.type.value for one in manifest.segments] == ["10200004", "111030", "78961009"]
    (combine,) = (step for step in manifest.plan if isinstance(step, Combine))
    assert combine.rule.model_dump() == {"kind": "parts", "wins": "later"}
    assert list(manifest.networks) == ["part-1-fold-0", "part-2-fold-0"]


def test_a_release_may_stay_zipped(parts: PartsCase, tmp_path: Path) -> None:
    zipped = tuple(
        Path(shutil.make_archive(str(tmp_path / folder.name), "zip", folder.parent, folder.name))
        for folder in parts.folders
    )
    one = lint_manifest(imported(zipped, tmp_path / "zipped"))
    other = lint_manifest(imported(parts.folders, tmp_path / "folders"))
    assert one.digest == other.digest


def test_one_model_alone_needs_nothing_put_together(parts: PartsCase, tmp_path: Path) -> None:
    manifest = lint_manifest(imported(parts.folders[:1], tmp_path / "models"))
    assert [step.do for step in manifest.plan][-2:] == ["decide", "restore"]
    assert np.array_equal([one.number for one in manifest.segments], [1, 2])


def test_parts_that_do_not_belong_together_are_refused(parts: PartsCase, tmp_path: Path) -> None:
    first, second = parts.folders
    with pytest.raises(NotImportableError, match="finds liver, and so does"):
        imported((first, first), tmp_path / "models")
    (plans,) = second.glob("*/plans.json")
    plans.write_text(plans.read_text().replace("[1.5, 1.5, 1.5]", "[3.0, 3.0, 3.0]"))
    with pytest.raises(NotImportableError, match="Name the parts of one task alone"):
        imported(parts.folders, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"no archive")
    with pytest.raises(NotImportableError, match="neither a folder nor a zip file"):
        imported((file,), tmp_path / "models")
