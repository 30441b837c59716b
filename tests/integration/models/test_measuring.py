"""What `axial models bench` measures of a build, on the build itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from typer.testing import CliRunner

from models.building import ReferenceVolume, measure_build
from models.building.errors import BuildError
from models.manifest import BuildRecord, Target
from services.cli.tree import app


def test_runs_are_counted_with_their_passes_and_what_is_around(
    built: BuildRecord, build_root: Path, head: ReferenceVolume
) -> None:
    told: list[int] = []
    found = measure_build(built, head, build_root, runs=2, threads=2, report=told.append)
    assert told == [1, 2]
    assert found.shape == head.pixels.shape
    assert found.load_s > found.runs[0].whole, "loading holds a run"
    assert found.peak_bytes > head.pixels.nbytes
    for run in found.runs:
        assert run.passes == {"coarse": 1, "fine": 1}
        assert run.segments[1] > 1_000_000
        passes = sum(run.networks.values())
        assert run.whole == pytest.approx(passes + run.around)
        assert sum(run.stages.values()) <= run.around
    assert min(run.whole for run in found.runs) <= found.median_s <= found.runs[0].whole * 10


def test_a_build_that_only_triton_runs_is_not_measured(
    built: BuildRecord, build_root: Path, head: ReferenceVolume
) -> None:
    plan = built.model_copy(update={"target": Target.TENSORRT})
    with pytest.raises(BuildError, match="Triton alone"):
        measure_build(plan, head, build_root, runs=1, threads=1)


def test_a_volume_that_the_model_refuses_is_said(built: BuildRecord, build_root: Path) -> None:
    nothing = ReferenceVolume(np.zeros((40, 64, 64), np.float32), np.eye(4))
    with pytest.raises(BuildError, match=r"blank_image.*--image"):
        measure_build(built, nothing, build_root, runs=1, threads=2)


def test_the_command_measures_an_image_of_the_users(
    built: BuildRecord,
    build_root: Path,
    head: ReferenceVolume,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AXIAL_TRITON__REPOSITORY", str(build_root))
    thin = np.ascontiguousarray(head.pixels[::4].T)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine_lps @ np.diag([1.0, 1.0, 4.0, 1.0])
    file = tmp_path / "head.nii.gz"
    Nifti1Image(thin, to_ras).to_filename(file)
    arguments = ["models", "bench", built.digest, "--image", str(file), "--runs", "1"]
    (found,) = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["digest"] == built.digest
    assert found["shape"] == list(thin.T.shape)
    assert found["runs"][0]["passes"] == {"coarse": 1, "fine": 1}
    printed = CliRunner().invoke(app, arguments).output
    for words in ("network fine", "1 pass", "work around the networks", "MiB in this process"):
        assert words in printed
