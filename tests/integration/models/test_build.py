"""The real build: weights from the wheel, parity on a real head, cached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.building import (
    BuildError,
    TargetMissingError,
    build_model,
    list_models,
    verify_build,
)
from models.manifest import (
    BuildRecord,
    Precision,
    ServedBuild,
    Target,
    build_folder,
    load_build_record,
    load_manifest,
    served_builds,
)
from tests.integration.models.conftest import CACHE, CATALOGUE, CHECKOUT

FOLDER = CATALOGUE / "brain-extraction"


def test_a_build_is_accepted_in_every_precision_it_compared(built: BuildRecord) -> None:
    manifest = load_manifest(FOLDER)
    assert built.precision in manifest.precision.cpu
    assert built.digest == manifest.digest_for(built.precision, Target.CPU)
    assert built.parity[0].precision is built.precision
    least = {Precision.F32: 0.999, Precision.BF16: 0.995}
    for parity in built.parity:
        assert parity.accepted
        assert parity.dice >= least[parity.precision]
        assert parity.differing_voxels < parity.reference_voxels / 100


def test_a_built_model_is_listed_and_verified(built: BuildRecord, build_root: Path) -> None:
    listed = {one.name: one for one in list_models(CATALOGUE, "cpu", build_root)}
    assert listed[built.model].served == built
    assert not any(one.stale for one in listed[built.model].builds if one.served)
    verification = verify_build(built.model, built.digest, "cpu", build_root)
    assert verification.files == len(built.files)
    assert verification.known_answer_dice == pytest.approx(1.0, abs=1e-3)


def test_a_second_build_does_nothing_and_loads_nothing(
    built: BuildRecord, build_root: Path
) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from models.building import TargetMissingError, build_model\n"
        "steps = []\n"
        f"build_model(Path({str(FOLDER)!r}), 'cpu', Path({str(build_root)!r}),"
        " report=lambda step, detail: steps.append(step))\n"
        "assert steps == ['cached'], steps\n"
        "assert not {'torch', 'openvino'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=True, timeout=60)


def test_another_precision_is_another_build_with_another_digest(
    built: BuildRecord, tmp_path: Path
) -> None:
    record = build_model(FOLDER, "cpu", tmp_path / "models", precision="f32", cache=CACHE)
    assert record.precision is Precision.F32
    assert [parity.precision for parity in record.parity] == [Precision.F32]
    assert record.digest == load_manifest(FOLDER).digest_for("f32")
    folder = build_folder(tmp_path / "models", Target.CPU, record.model, record.digest)
    assert load_build_record(folder) == record
    weights = folder / "1" / "fine.bin"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    with pytest.raises(BuildError, match=r"fine\.bin"):
        verify_build(record.model, record.digest, "cpu", tmp_path / "models")


def test_going_back_to_an_earlier_precision_builds_nothing(
    built: BuildRecord, build_root: Path, tmp_path: Path
) -> None:
    """A build in two precisions: each stays, and the one asked for last is served."""
    root = tmp_path / "models"
    place = build_folder(root, Target.CPU, built.model, built.digest)
    shutil.copytree(build_folder(build_root, Target.CPU, built.model, built.digest), place)

    def served_after(precision: str | None) -> tuple[list[str], str]:
        steps: list[str] = []
        build_model(
            FOLDER,
            "cpu",
            root,
            precision=precision,
            cache=CACHE,
            report=lambda step, _: steps.append(step),
        )
        (one,) = served_builds(root, "cpu")
        assert isinstance(one, ServedBuild)
        return steps, one.precision

    first = built.precision.value
    if first == "f32":
        # This processor has no other precision: what it cannot compute in is refused, and what was
        # served stays.
        with pytest.raises(TargetMissingError, match="computes in none of bf16"):
            served_after("bf16")
        assert served_after(None)[1] == "f32"
        assert served_after("f32") == (["cached"], "f32")
        return
    assert served_after(first) == (["cached", "serves"], first)
    steps, precision = served_after("f32")
    assert "built" in steps
    assert precision == "f32"
    assert served_after(first) == (["cached", "serves"], first)
    assert served_after(None) == (["cached"], first)
    assert served_after("f32") == (["cached", "serves"], "f32")


def test_progress_is_reported_step_by_step(built: BuildRecord, build_root: Path) -> None:
    steps: list[tuple[str, str]] = []

    def report(step: str, detail: str) -> None:
        steps.append((step, detail))

    build_model(FOLDER, "cpu", build_root, report=report)
    assert [step for step, _ in steps] == ["cached"]
    assert built.digest[:12] in steps[0][1]
