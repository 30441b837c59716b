"""No field of a manifest promises what nothing keeps: each is consumed, or refused.

The values are found by a walk over the manifest, so that a new field is tested by being there.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from models.building import wheels
from models.building.errors import FetchError
from models.building.network_modules import deciding_head
from models.building.wheels import file_sha256
from models.manifest import Manifest, ManifestError, ModelError, lint_manifest
from models.manifest.base import Part
from models.manifest.lint import problems_of
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume
from tests.builders import mutations
from tests.builders.consumers import Consumers
from tests.builders.mutations import FieldPath, candidates, replaced, value_at
from tests.builders.small_models import shrink
from tests.unit.models.conftest import CATALOGUE, BrightnessNetwork

NAME = "brain-extraction"
Write = Callable[[dict[str, Any]], Path]


def catalogue_data() -> dict[str, Any]:
    """The catalogue's manifest with all that it leaves to defaults, and small networks."""
    written = yaml.safe_load((CATALOGUE / NAME / "model.yaml").read_text())
    data: dict[str, Any] = Manifest.model_validate(written).model_dump(mode="json", by_alias=True)
    shrink(data, 16, 16)
    return data


# Of one segment, "every" and "the first" are the same.
SAME_HERE: dict[FieldPath, Any] = {("measurements", 0, "segments"): [1]}
LEAVES = mutations.deciding_leaves(catalogue_data())


class Tiny(torch.nn.Module):
    """A network of two classes that depends on where it looks."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The manifest with sources that lie in a cache: real wheels of small, real networks."""
    folder = tmp_path_factory.mktemp("base")
    data = catalogue_data()
    for seed, (name, source) in enumerate(data["sources"].items()):
        wheel = folder / "cache" / "wheels" / source["wheel"]
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            for place, file in enumerate(source["files"]):
                content = _content(name, 10 * seed + place, folder)
                archive.writestr(file["path"], content)
                file["bytes"], file["sha256"] = len(content), hashlib.sha256(content).hexdigest()
        source["sha256"] = file_sha256(wheel)
    return data, folder / "cache"


def _content(source: str, seed: int, folder: Path) -> bytes:
    if source != "deepbet":
        return b"a head"
    file = folder / f"{seed}.pt"
    example = torch.rand(1, 1, 8, 8, 8)
    torch.jit.save(torch.jit.trace(Tiny(seed).eval(), example), str(file))  # pyright: ignore[reportPrivateImportUsage]
    return file.read_bytes()


@pytest.fixture(scope="module")
def consumers(
    base: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory
) -> Consumers:
    folder = tmp_path_factory.mktemp("consumers")
    return Consumers.in_folder(folder, _written(folder, base[0]), base[1])


def _written(folder: Path, data: dict[str, Any]) -> Path:
    file = folder / NAME / "model.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file.parent


@pytest.fixture(autouse=True)
def no_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_download(source: Any, requirements: Path, folder: Path) -> None:
        raise FetchError(f"{source.wheel} is not there")

    monkeypatch.setattr(wheels, "_pip_download", no_download)


def test_the_walk_finds_the_fields_that_people_think_of() -> None:
    """Without this, a walk that finds nothing would prove everything."""
    found = {".".join(map(str, path)) for path in LEAVES}
    assert {
        "networks.fine.channels",
        "networks.fine.classes",
        "plan.1.centres",
        "plan.2.by.kind",
        "plan.9.activation",
        "outputs.0.of",
        "roles.image.use",
        "roles.image.gate.accepts.gantry_tilt",
        "segments.0.region",
        "findings.1.max_ml",
    } <= found
    assert not any(path.startswith("resources") for path in found)


def test_a_manifest_is_not_told_apart_from_itself(
    consumers: Consumers, base: tuple[dict[str, Any], Path]
) -> None:
    manifest = Manifest.model_validate(base[0])
    assert consumers.told_apart_by(manifest, Manifest.model_validate(base[0])) == ""


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_another_value_is_another_digest_and_is_refused_or_does_something(
    path: FieldPath, consumers: Consumers, base: tuple[dict[str, Any], Path]
) -> None:
    data, _ = base
    original = Manifest.model_validate(data)
    for value in candidates(value_at(data, path)):
        try:
            changed = Manifest.model_validate(replaced(data, path, value))
        except ValidationError:
            continue
        if changed == original or SAME_HERE.get(path) == value:
            continue
        assert changed.digest != original.digest, f"{value!r} has the same digest"
        if next(problems_of(changed), None) is not None:
            continue
        try:
            told = consumers.told_apart_by(original, changed)
        except ModelError as error:
            told = str(error)
        assert told, f"{value!r} is taken, and changes nothing"


def test_a_field_that_nothing_reads_would_be_found(
    consumers: Consumers, base: tuple[dict[str, Any], Path]
) -> None:
    """A description is such a field, which is why the digest leaves it out."""
    changed = replaced(base[0], ("identity", "description"), "other words")
    one, other = Manifest.model_validate(base[0]), Manifest.model_validate(changed)
    assert consumers.told_apart_by(one, other) == ""


def test_every_setting_of_a_step_is_read_by_the_check_the_build_or_the_run(
    base: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.model_validate(base[0])
    networks = {name: BrightnessNetwork(name, one.patch) for name, one in manifest.networks.items()}
    pipeline = Pipeline(manifest, networks)
    used = [part for step in manifest.plan for part in _parts(step)]
    parts = {type(part) for part in used}
    # A kind is read by being another class; what is None says that another setting counts.
    wanted = {
        (type(part).__name__, name)
        for part in used
        for name in type(part).model_fields
        if name != "kind" and getattr(part, name) is not None
    }
    read: set[tuple[str, str]] = set()
    for part in parts:
        monkeypatch.setattr(part, "__getattribute__", _noting(part, read))
    assert next(problems_of(manifest), None) is None
    for name in networks:
        assert deciding_head(manifest.networks[name], manifest.head_of(name)) is not None
    result = pipeline.run({"image": SourceVolume(_bright_box(), _AFFINE)})
    assert result.voxels[1] > 0
    assert wanted - read == set()


def _parts(part: Part) -> Iterator[Part]:
    """A step and what it is made of."""
    yield part
    for name in type(part).model_fields:
        if isinstance(below := getattr(part, name), Part):
            yield from _parts(below)


def _noting(part: type, read: set[tuple[str, str]]) -> Any:
    def noted(self: object, name: str) -> Any:
        read.add((part.__name__, name))
        return object.__getattribute__(self, name)

    return noted


_AFFINE = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)).numpy()


def _bright_box() -> Any:
    volume = torch.zeros(20, 24, 28)
    volume[5:15, 6:18, 7:21] = 100.0
    return volume.numpy()


REFUSED: list[tuple[FieldPath, Any, str, str]] = [
    (("networks", "fine", "channels"), 2, "plan.9.in", "Stack"),
    (("networks", "fine", "margin"), [1, 0, 0], "plan.9.tiling", "tile"),
    (("networks", "fine", "classes"), 118, "networks.fine.classes", "Write 2"),
    (("plan", 9, "members"), ["coarse"], "plan.9.members", "entry of its own"),
    (("plan", 0, "axes"), "RLA", "plan.0.axes", "Correct"),
    (("plan", 1, "order"), "lanczos", "plan.1.order", "Correct"),
    (("plan", 2, "by", "kind"), "z-score", "plan.2.by.kind", "Correct"),
    (("plan", 4, "rule", "channel"), 2, "plan.4.rule.channel", "Write 0 to 1"),
    (("plan", 11, "to"), "t1", "plan.11.to", "Write to: image"),
    (("plan", 12, "segment"), 3, "plan.12.segment", "It has 1"),
    (("outputs", 0, "of"), "labels", "outputs.0.of", "Name one of"),
]


@pytest.mark.parametrize(
    ("path", "value", "field", "remedy"), REFUSED, ids=[one[2] for one in REFUSED]
)
def test_what_cannot_be_built_is_refused_with_line_field_and_remedy(
    path: FieldPath,
    value: Any,
    field: str,
    remedy: str,
    base: tuple[dict[str, Any], Path],
    tmp_path: Path,
) -> None:
    from models.building.targets import save_modules

    folder = _written(tmp_path, replaced(base[0], path, value))
    with pytest.raises(ManifestError) as caught:
        save_modules(folder, lint_manifest(folder), base[1], tmp_path, lambda step, detail: None)
    assert caught.value.field == field
    assert remedy in caught.value.remedy
    lines = (folder / "model.yaml").read_text().splitlines()
    assert caught.value.line is not None
    assert lines[caught.value.line - 1].strip().lstrip("- ").startswith(field.split(".")[-1])


@pytest.mark.parametrize(
    ("path", "like", "problem"),
    [
        (("roles", "t1-gd"), ("roles", "image"), "nothing reads t1-gd"),
        (("networks", "spare"), ("networks", "fine"), "no step runs it"),
    ],
    ids=["role", "network"],
)
def test_a_part_that_nothing_uses_is_refused(
    path: FieldPath,
    like: FieldPath,
    problem: str,
    base: tuple[dict[str, Any], Path],
    tmp_path: Path,
) -> None:
    part = dict(value_at(base[0], like))
    if path[0] == "roles":
        part |= {"use": "aligned", "align": {"to": "image", "by": "same-frame"}}
    folder = _written(tmp_path, replaced(base[0], path, part))
    with pytest.raises(ManifestError, match=problem):
        lint_manifest(folder)


def test_a_segment_that_the_pipeline_does_not_make_is_refused(
    base: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    second = {**base[0]["segments"][0], "number": 2, "label": "Other"}
    folder = _written(tmp_path, replaced(base[0], ("segments",), [base[0]["segments"][0], second]))
    with pytest.raises(ManifestError, match="the plan makes 1 alone"):
        lint_manifest(folder)


def test_an_output_that_does_not_lie_on_the_slices_is_refused(
    base: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    data = replaced(base[0], ("plan",), base[0]["plan"][:11])
    folder = _written(tmp_path, replaced(data, ("outputs", 0, "of"), "mask"))
    with pytest.raises(ManifestError, match="not on the slices of image") as caught:
        lint_manifest(folder)
    assert caught.value.field == "outputs.0.of"


def test_a_file_that_nothing_reads_is_refused(
    base: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    spare = {"path": "spare.pt", "bytes": 1, "sha256": "0" * 64}
    files = [*base[0]["sources"]["deepbet"]["files"], spare]
    folder = _written(tmp_path, replaced(base[0], ("sources", "deepbet", "files"), files))
    with pytest.raises(ManifestError, match=r"nothing reads spare\.pt"):
        lint_manifest(folder)
