"""The demonstration as a user runs it: what it prints, writes, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.e2e.head_studies import write_head
from tests.e2e.stack import CHECKOUT


def _demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "demo", "--folder", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, "COLUMNS": "200", **variables},
        timeout=250,
    )


def _axial(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "-c", str(folder / "axial.yaml"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )


def test_demo_ends_in_objects_and_a_picture_and_keeps_running_when_asked(tmp_path: Path) -> None:
    ended = _demo(tmp_path, "--keep")
    try:
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Brain volume" in ended.stdout
        assert "2 of 2 results delivered" in ended.stdout
        results = {file.name for file in (tmp_path / "results").iterdir()}
        assert results == {
            "brain-extraction.seg.dcm",
            "brain-extraction.sr.dcm",
            "brain-extraction.montage.png",
        }
        with Image.open(tmp_path / "results" / "brain-extraction.montage.png") as picture:
            assert min(picture.size) > 700
        assert "The stack keeps running." in ended.stdout
        assert "done" in _axial(tmp_path, "status").stdout
        again = _demo(tmp_path)
        assert again.returncode == 1
        assert "A demonstration is still running" in again.stderr
    finally:
        down = _axial(tmp_path, "down")
    assert down.stdout.strip() == "Stopped."
    assert _axial(tmp_path, "down").returncode == 1


def test_own_study_that_is_refused_is_told_and_is_no_failure(tmp_path: Path) -> None:
    write_head(tmp_path / "study", "demo refused")[20].unlink()
    ended = _demo(tmp_path / "demo", "--study", str(tmp_path / "study"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "At least one slice is missing" in ended.stdout


def test_failed_stage_ends_the_demo_with_its_reason(tmp_path: Path) -> None:
    write_head(tmp_path / "study", "demo failed")
    ended = _demo(
        tmp_path / "demo",
        "--study",
        str(tmp_path / "study"),
        AXIAL_TRITON__INFER_DEADLINE_S="0.001",
    )
    assert ended.returncode == 1
    assert "broke off while analysing this series" in ended.stderr


def test_folder_without_dicom_ends_the_demo_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = _demo(tmp_path / "demo", "--study", str(tmp_path / "empty"))
    assert ended.returncode == 1
    assert "holds no DICOM file" in ended.stderr
