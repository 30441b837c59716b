"""Builds that may not be made are refused, and builds appear whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from models.building import (
    BuildError,
    ListedBuild,
    ParityError,
    TargetMissingError,
    build_model,
    list_builds,
    list_models,
)
from models.building.parity import ParityReference, compare, require_accepted
from models.building.reference_volumes import ReferenceVolume
from models.building.repository import (
    altered_files,
    clear_old_layout,
    current_record,
    list_built_files,
    publish,
    say_served,
    staging,
)
from models.building.tensorrt_plan import require_tensorrt
from models.manifest import (
    BuildRecord,
    Manifest,
    Precision,
    Target,
    build_folder,
    load_manifest,
    triton_model_name,
)
from models.manifest.record import BUILD_RECORD_FILE

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"
FOLDER = CATALOGUE / "brain-extraction"
NAME = triton_model_name("brain-extraction", load_manifest(FOLDER).digest)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_tensorrt_is_refused_where_only_its_stubs_are(tmp_path: Path) -> None:
    with pytest.raises(TargetMissingError, match="TensorRT is") as caught:
        build_model(FOLDER, "tensorrt", tmp_path)
    assert "target cpu" in str(caught.value)
    assert list(tmp_path.rglob("*.pbtxt")) == []
    with pytest.raises(TargetMissingError):
        require_tensorrt()


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_the_torch_target_is_refused_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(TargetMissingError, match="torch sees none"):
        build_model(FOLDER, Target.TORCH, tmp_path)


def test_a_precision_that_the_manifest_does_not_allow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="allows bf16, f32"):
        build_model(FOLDER, "cpu", tmp_path, precision="f16")
    with pytest.raises(BuildError, match="no precision"):
        build_model(FOLDER, "cpu", tmp_path, precision="int4")


def reference(labels: np.ndarray) -> ParityReference:
    head = ReferenceVolume(np.zeros((1, 1, 1), np.float32), np.eye(4))
    return ParityReference(head, "0" * 64, labels)


def test_parity_outside_its_bounds_fails_the_build() -> None:
    manifest = load_manifest(FOLDER)
    trained = np.zeros((50, 50, 50), np.uint8)
    trained[10:40, 10:40, 10:40] = 1
    strayed = np.roll(trained, 1, axis=0)
    parity = compare(manifest, Precision.F32, strayed, reference(trained))
    assert not parity.accepted
    assert parity.differing_voxels == 2 * 30 * 30
    with pytest.raises(ParityError, match=r"Dice 0\.96667"):
        require_accepted(manifest, parity)


def test_too_many_differing_voxels_fail_in_spite_of_dice() -> None:
    manifest = load_manifest(FOLDER)
    trained = np.ones((300, 300, 300), np.uint8)
    strayed = trained.copy()
    strayed[0, :100, :100] = 0
    parity = compare(manifest, Precision.F32, strayed, reference(trained))
    assert parity.dice > 0.999
    assert not parity.accepted


def test_an_equal_mask_is_accepted() -> None:
    manifest = load_manifest(FOLDER)
    trained = np.ones((5, 5, 5), np.uint8)
    parity = compare(manifest, Precision.BF16, trained, reference(trained))
    assert parity.accepted
    require_accepted(manifest, parity)


def written(folder: Path, content: str, manifest: Manifest) -> BuildRecord:
    """Write a small build's folder with its record below `folder`."""
    model = folder / triton_model_name(manifest.name, manifest.digest)
    (model / "1").mkdir(parents=True)
    (model / "1" / "network.bin").write_text(content)
    record = BuildRecord(
        model=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        target=Target.CPU,
        precision=Precision.BF16,
        build_key="a" * 64,
        parity=(),
        versions={},
        built_at="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        files=list_built_files([model]),
    )
    (model / BUILD_RECORD_FILE).write_text(record.model_dump_json(by_alias=True))
    return record


def test_a_new_build_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    repository = tmp_path / "cpu" / "repository"
    for content in ("old", "new"):
        with staging(tmp_path, Target.CPU) as work:
            record = written(work / "models", content, manifest)
            publish(work / "models", repository)
        assert current_record(repository / NAME, "a" * 64) == record
        assert (repository / NAME / "1" / "network.bin").read_text() == content
    assert sorted(one.name for one in (tmp_path / "cpu").iterdir()) == [".lock", "repository"]


def build_half(output_root: Path, manifest: Manifest) -> None:
    with staging(output_root, Target.CPU) as work:
        written(work / "models", "half", manifest)
        raise RuntimeError("torn")


def test_a_build_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    repository = tmp_path / "cpu" / "repository"
    with staging(tmp_path, Target.CPU) as work:
        record = written(work / "models", "old", manifest)
        publish(work / "models", repository)
    with pytest.raises(RuntimeError, match="torn"):
        build_half(tmp_path, manifest)
    assert current_record(repository / NAME, "a" * 64) == record
    assert sorted(one.name for one in (tmp_path / "cpu").iterdir()) == [".lock", "repository"]


def test_what_a_killed_build_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "cpu" / ".staging" / "half"
    left.mkdir(parents=True)
    with staging(tmp_path, Target.CPU) as work:
        assert list(work.iterdir()) == []
    assert not left.exists()


def test_builds_of_one_target_come_one_after_the_other(tmp_path: Path) -> None:
    inside: list[str] = []

    def second() -> None:
        with staging(tmp_path, Target.CPU):
            inside.append("second")

    other = threading.Thread(target=second)
    with staging(tmp_path, Target.CPU):
        other.start()
        other.join(timeout=0.2)
        inside.append("first")
    other.join(timeout=10)
    assert inside == ["first", "second"]


def test_a_build_from_something_else_or_with_a_missing_file_is_stale(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    written(tmp_path, "content", manifest)
    folder = tmp_path / NAME
    assert current_record(folder, "b" * 64) is None
    assert current_record(tmp_path / "nothing", "a" * 64) is None
    (folder / "1" / "network.bin").unlink()
    assert current_record(folder, "a" * 64) is None


def test_an_altered_file_is_found_by_its_hash(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    record = written(tmp_path, "content", manifest)
    assert altered_files(record, tmp_path) == []
    (tmp_path / NAME / "1" / "network.bin").write_text("CONTENT")
    assert altered_files(record, tmp_path) == [f"{NAME}/1/network.bin"]


def test_models_are_listed_with_their_builds(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    assert [(one.name, one.builds) for one in list_models(CATALOGUE, "cpu", tmp_path)] == [
        (manifest.name, ())
    ]
    record = written(tmp_path / "cpu" / "repository", "content", manifest)
    (listed,) = list_models(CATALOGUE, "cpu", tmp_path)
    assert listed.builds == (ListedBuild(record, served=False, stale=False),)
    assert listed.served is None
    say_served(tmp_path, record)
    (listed,) = list_models(CATALOGUE, "cpu", tmp_path)
    assert listed.served == record


def test_a_build_of_an_older_manifest_is_listed_as_stale(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    record = written(tmp_path / "cpu" / "repository", "content", manifest)
    older = record.model_copy(update={"digest": "0" * 64})
    repository = tmp_path / "cpu" / "repository"
    (repository / NAME).rename(repository / triton_model_name(manifest.name, older.digest))
    file = build_folder(tmp_path, "cpu", manifest.name, older.digest) / BUILD_RECORD_FILE
    file.write_text(older.model_dump_json(by_alias=True))
    (build,) = list_models(CATALOGUE, "cpu", tmp_path)[0].builds
    assert build.stale


def test_builds_of_a_model_stand_side_by_side(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    other = manifest.model_copy(
        update={"identity": manifest.identity.model_copy(update={"version": "2.0.0"})}
    )
    repository = tmp_path / "cpu" / "repository"
    for one in (manifest, other):
        with staging(tmp_path, Target.CPU) as work:
            written(work / "models", one.version, one)
            publish(work / "models", repository)
    assert len(list(repository.iterdir())) == 2
    builds = list_builds("cpu", tmp_path, [manifest])
    assert {build.record.version: build.stale for build in builds} == {
        "1.0.0": False,
        "2.0.0": True,
    }


def test_what_earlier_versions_left_of_a_model_is_cleared(tmp_path: Path) -> None:
    manifest = load_manifest(FOLDER)
    repository = tmp_path / "repository"
    written(repository, "today", manifest)
    (repository / NAME / "config.pbtxt").write_text("today")
    for old in (manifest.name, f"{manifest.name}--fine", "another-model"):
        (repository / old).mkdir()
        (repository / old / "config.pbtxt").write_text("old")
    away = tmp_path / "away"
    away.mkdir()
    cleared = clear_old_layout(manifest, repository, away)
    assert cleared == [manifest.name, f"{manifest.name}--fine"]
    assert sorted(one.name for one in repository.iterdir()) == ["another-model", NAME]
