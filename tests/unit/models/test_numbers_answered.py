"""A recipe's ensemble with small seeded networks: from the request to the numbers of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from axial.v1 import inference_pb2 as pb
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from models.manifest import Manifest, ManifestError, lint_manifest
from models.manifest.lint import problems_of
from models.runtime.merging.activation import softmax
from models.runtime.pipeline import Pipeline
from models.runtime.serving import answer_request
from tests.builders.consumers import Consumers
from tests.builders.mutations import FieldPath, candidates, leaves, replaced, value_at

RECIPE = Path(__file__).resolve().parents[3] / "models" / "recipes" / "ich-ct"
DIGEST = "d" * 64
SHAPE = (9, 24, 22)
SPACING = (2.0, 0.9, 1.1)
MEMBERS = 3
PATCH = 14
TENSOR = "VOLUME.image.int16"
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seeded:
    """A network of five classes with random weights; it looks around each voxel."""

    name: str
    seed: int
    shape: tuple[int, int, int] = (PATCH, PATCH, PATCH)
    target: str = "cpu"
    precision: str = "f32"
    ran: list[int] = field(default_factory=list[int])

    def scores(self, batch: F32) -> F32:
        self.ran.append(len(batch))
        random = np.random.default_rng(self.seed)
        around = ndimage.uniform_filter(batch[0, 0], 3, mode="nearest")[2:-2, 2:-2, 2:-2]
        same = np.random.default_rng(5).normal(0, 3, (5, 3))
        gains = same + random.normal(0, 0.7, (5, 3))
        powers = np.stack([np.ones_like(around), around, around**2])
        logits = np.tensordot(gains.astype(np.float32), powers, axes=1)
        return softmax(logits.astype(np.float32))[None]

    def release(self) -> None:
        """Nothing is held."""


def recipe() -> dict[str, Any]:
    """The recipe with three members of a small patch."""
    data: dict[str, Any] = yaml.safe_load((RECIPE / "model.yaml").read_text())
    names = [f"member-{number}" for number in range(1, MEMBERS + 1)]
    for name in names:
        network = data["networks"][name]
        network.update(patch=[PATCH] * 3, margin=[2, 2, 2])
    data["networks"] = {name: data["networks"][name] for name in names}
    files = [each["weights"]["path"] for each in data["networks"].values()]
    source = data["sources"]["blast-ct-v1"]
    source["files"] = [each for each in source["files"] if each["path"] in files]
    (infer,) = (step for step in data["plan"] if step["do"] == "infer")
    infer["members"] = names
    return data


def pipeline(data: dict[str, Any], only: int | None = None) -> Pipeline:
    manifest = Manifest.model_validate(data)
    networks = {
        name: Seeded(name, seed if only is None else only)
        for seed, name in enumerate(manifest.networks)
    }
    return Pipeline(manifest, networks)


def volume() -> NDArray[np.int16]:
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).normal(0, 1, SHAPE), 2.0)
    return (40 + 50 * smooth / smooth.std()).astype(np.int16)


def answered(of: Pipeline) -> tuple[NDArray[np.uint8], pb.InferenceAnswer]:
    message = pb.InferenceRequest(job_uid="2.25.1", model_digest=DIGEST, grid_role="image")
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    message.roles.add(
        role="image", affine_lps=affine.ravel().tolist(), dtype="int16", slope=1.0, tensor=TENSOR
    )
    return answer_request(of, DIGEST, message.SerializeToString(), {TENSOR: volume()})


def test_the_answer_has_the_numbers_of_each_member_run_alone() -> None:
    assert next(problems_of(Manifest.model_validate(recipe())), None) is None
    labels, answer = answered(pipeline(recipe()))
    layers, values = answer.outputs
    assert (layers.kind, values.name, values.kind, values.tensor) == (
        "layers", "uncertainty", "values", "",
    )  # fmt: skip
    assert dict(values.values) == {"members": MEMBERS}
    found = {each.name: dict(each.by_segment) for each in values.segment_values}
    voxel_ml = float(np.prod(SPACING)) / 1000.0
    alone = np.stack(
        [
            np.bincount(answered(pipeline(recipe(), only=seed))[0].ravel(), minlength=5) * voxel_ml
            for seed in range(MEMBERS)
        ]
    )
    low, high = np.quantile(alone, [0.025, 0.975], axis=0)
    whole = np.bincount(labels.ravel(), minlength=5) * voxel_ml
    assert sum(whole[1:] > 0) >= 2, "a result of one segment proves little"
    assert (low[1:] < high[1:]).any()
    for number in (1, 2, 3, 4):
        assert found["volume_ml"][number] == pytest.approx(whole[number])
        assert found["volume_low_ml"][number] == pytest.approx(low[number])
        assert found["volume_high_ml"][number] == pytest.approx(high[number])
        assert found["members_finding"][number] == np.count_nonzero(alone[:, number])
        assert 0.0 <= found["disagreement"][number] <= 1.0
    known = {number for number in (1, 2, 3, 4) if whole[number] > 0}
    assert set(found["entropy"]) == set(found["mutual_information"]) == known
    assert all(0.0 < each < 1.0 for each in found["entropy"].values())


def test_labels_are_those_of_a_plan_that_measures_nothing() -> None:
    data = recipe()
    data["plan"].pop()
    data["outputs"].pop()
    data["findings"] = []
    data["measurements"][0].pop("interval")
    plain, answer = answered(pipeline(data))
    measured, _ = answered(pipeline(recipe()))
    np.testing.assert_array_equal(plain, measured)
    assert [output.kind for output in answer.outputs] == ["layers"]


def test_each_member_runs_once_a_tile_whether_it_is_measured_or_not() -> None:
    measured = pipeline(recipe())
    answered(measured)
    data = recipe()
    data["plan"].pop()
    data["outputs"].pop()
    data["findings"], data["measurements"] = [], []
    plain = pipeline(data)
    answered(plain)
    for name, network in measured.networks.items():
        assert network.ran == plain.networks[name].ran  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def consumers(tmp_path_factory: pytest.TempPathFactory) -> Consumers:
    folder = tmp_path_factory.mktemp("consumers")
    return Consumers.in_folder(folder, folder, folder)


WHOLE: dict[str, Any] = Manifest.model_validate(recipe()).model_dump(mode="json", by_alias=True)
PARTS: tuple[FieldPath, ...] = (("findings",), ("outputs",), ("measurements",), ("plan", 6))
FIELDS = [
    (*part, *path)
    for part in PARTS
    for path in leaves(value_at(WHOLE, part))
    # What of a finding says why it is there is for who reads the manifest.
    if path[-1] != "why"
]


def test_the_walk_finds_what_is_new() -> None:
    assert {
        ("findings", 2, "above"),
        ("findings", 2, "number"),
        ("findings", 2, "of"),
        ("measurements", 0, "interval"),
        ("outputs", 1, "kind"),
        ("plan", 6, "interval", "low"),
    } <= set(FIELDS)


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_another_value_is_refused_or_is_another_digest_and_told_apart(
    path: FieldPath, consumers: Consumers
) -> None:
    """Judged otherwise, written otherwise into an object, or another plan."""
    original = Manifest.model_validate(WHOLE)
    for value in candidates(value_at(WHOLE, path)):
        try:
            changed = Manifest.model_validate(replaced(WHOLE, path, value))
        except ValidationError:
            continue
        if changed == original or next(problems_of(changed), None) is not None:
            continue
        assert changed.digest != original.digest, f"{value!r} has the same digest"
        told = consumers.told_apart_by(original, changed, but="networks")
        assert told, f"{value!r} is taken, and changes nothing"


REFUSED: list[tuple[FieldPath, Any, str]] = [
    (("findings", 2, "of"), "labels", "there is no output labels of kind values"),
    (("measurements", 0, "interval"), "nothing", "there is no output nothing of kind values"),
    (("outputs", 1, "kind"), "layers", "one output of kind layers"),
    (("outputs", 1, "name"), "labels", "two outputs have one name"),
    (("outputs", 1, "of"), "lesions", "nothing reads uncertainty"),
    (("outputs", 0, "of"), "uncertainty", "uncertainty holds no segments"),
    (("plan", 6, "in"), "lesions", "not on the slices of image"),
    (("plan", 3, "activation"), "none", "the scores are no probabilities"),
    (("plan", 4, "rule", "segments"), [1, 2, 3, 0], "has no volumes of segment 4"),
    (("measurements", 0, "segments"), [1], "is not measured"),
]


@pytest.mark.parametrize(("path", "value", "problem"), REFUSED, ids=[one[2] for one in REFUSED])
def test_what_nothing_would_heed_is_refused(
    path: FieldPath, value: Any, problem: str, tmp_path: Path
) -> None:
    data = recipe()
    if path == ("plan", 3, "activation"):
        data["findings"][2]["number"] = "entropy"
        del data["plan"][3]["tiling"]["empty"]  # which is refused first
    file = tmp_path / "ich-ct" / "model.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(replaced(data, path, value), sort_keys=False))
    with pytest.raises(ManifestError, match=problem):
        lint_manifest(file.parent)


def test_segments_are_no_numbers() -> None:
    data = recipe()
    data["plan"].pop()
    data["outputs"][1]["of"] = "lesions"
    problem = next(problems_of(Manifest.model_validate(data)))
    assert (problem.path, problem.problem) == (("outputs", 1, "of"), "lesions holds no numbers.")


def test_an_interval_of_other_segments_than_are_reported_is_refused() -> None:
    data = recipe()
    clean = {"do": "clean", "in": "on-slices", "segment": 1, "out": "tidy",
             "by": {"kind": "largest-component", "connectivity": 6}}  # fmt: skip
    data["plan"].append(clean)
    data["outputs"][0]["of"] = "tidy"
    (problem,) = problems_of(Manifest.model_validate(data))
    assert problem.path == ("measurements", 0, "interval")
    assert problem.remedy == "Measure the uncertainty of tidy."
