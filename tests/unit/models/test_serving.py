"""The contract between orchestrator and pipeline model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from axial.v1 import inference_pb2 as pb

from models.manifest import Manifest
from models.runtime.errors import RequestError
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.progress import Caller
from models.runtime.running import Cancelled
from models.runtime.serving import answer_request

DIGEST = "d" * 64
FLOATS = "VOLUME.image.float32"


@pytest.fixture
def pipeline(small_manifest: Manifest, brightness_networks: Mapping[str, Network]) -> Pipeline:
    return Pipeline(small_manifest, brightness_networks)


def volume() -> np.ndarray:
    pixels = np.zeros((30, 30, 30), np.float32)
    pixels[8:22, 8:22, 8:22] = 50.0
    return pixels


def request(
    digest: str = DIGEST, numbers: int = 16, grid_role: str = "image", **role: Any
) -> bytes:
    """A request for the labels of one float32 volume, with fields of its role changed."""
    message = pb.InferenceRequest(job_uid="2.25.1", model_digest=digest, grid_role=grid_role)
    described = {
        "role": "image",
        "affine_lps": np.eye(4).ravel().tolist()[:numbers],
        "dtype": "float32",
        "slope": 1.0,
        "tensor": FLOATS,
    }
    message.roles.add(**{**described, **role})
    return message.SerializeToString()


def test_an_answer_counts_the_voxels_of_its_labels(pipeline: Pipeline) -> None:
    labels, answer = answer_request(pipeline, DIGEST, request(), {FLOATS: volume()})
    assert answer.model_digest == DIGEST
    assert not answer.HasField("refusal")
    assert [(one.number, one.voxels) for one in answer.segments] == [(1, int(labels.sum()))]
    assert labels.any()
    assert [(one.network, one.target, one.precision) for one in answer.networks] == [
        ("coarse", "cpu", "f32"),
        ("fine", "cpu", "f32"),
    ]
    assert all(stage.seconds >= 0 for stage in answer.stages)


def test_a_request_for_another_build_is_refused(pipeline: Pipeline) -> None:
    labels, answer = answer_request(pipeline, DIGEST, request("e" * 64), {FLOATS: volume()})
    assert answer.refusal.reason == "model_digest_mismatch"
    assert dict(answer.refusal.values) == {"wanted": "e" * 64, "served": DIGEST}
    assert labels.shape == (30, 30, 30)
    assert not labels.any()
    assert not answer.networks


def test_a_blank_image_is_refused_with_zero_labels(pipeline: Pipeline) -> None:
    blank = np.zeros((30, 30, 30), np.float32)
    labels, answer = answer_request(pipeline, DIGEST, request(), {FLOATS: blank})
    assert answer.refusal.reason == "blank_image"
    assert not labels.any()
    assert not answer.segments


def test_no_pass_begins_once_nobody_waits(
    small_manifest: Manifest, brightness_networks: Mapping[str, Network]
) -> None:
    pipeline = Pipeline(small_manifest, brightness_networks)
    asked: list[bool] = []

    def is_cancelled() -> bool:
        asked.append(True)
        return len(asked) > 1

    with pytest.raises(Cancelled):
        answer_request(pipeline, DIGEST, request(), {FLOATS: volume()}, caller=Caller(is_cancelled))
    assert len(asked) == 2  # before the coarse network, and before the fine one
    _, answer = answer_request(pipeline, DIGEST, request(), {FLOATS: volume()})
    assert len(answer.networks) == 2


def test_bytes_that_are_no_request_are_an_error(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="no InferenceRequest"):
        answer_request(pipeline, DIGEST, b"\xff\xff\xff", {FLOATS: volume()})


def test_an_affine_needs_sixteen_numbers(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="15 numbers"):
        answer_request(pipeline, DIGEST, request(numbers=15), {FLOATS: volume()})


def test_an_answer_lists_its_output(pipeline: Pipeline) -> None:
    _, answer = answer_request(pipeline, DIGEST, request(), {FLOATS: volume()})
    (output,) = answer.outputs
    assert (output.name, output.kind, output.tensor) == ("labels", "layers", "LABELS")
    assert (output.dtype, output.grid_role) == ("uint8", "image")


def test_a_refusal_lists_no_output(pipeline: Pipeline) -> None:
    blank = np.zeros((30, 30, 30), np.float32)
    _, answer = answer_request(pipeline, DIGEST, request(), {FLOATS: blank})
    assert answer.HasField("refusal")
    assert not answer.outputs


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_the_tensor_that_the_request_names_is_read(pipeline: Pipeline, dtype: str) -> None:
    stored = volume().astype(dtype)
    named = f"VOLUME.image.{dtype}"
    tensors = {named: stored, FLOATS: np.zeros((30, 30, 30), np.float32)}
    asked = request(tensor=named, dtype=dtype, slope=0.3, intercept=-7.0)
    labels, answer = answer_request(pipeline, DIGEST, asked, tensors)
    values = (stored * np.float64(0.3) - 7.0).astype(np.float32)
    expected, _ = answer_request(pipeline, DIGEST, request(), {FLOATS: values})
    assert not answer.HasField("refusal")
    assert expected.any()
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (request(grid_role=""), "grid_role is '', which is none of the roles image"),
        (request(grid_role="t1"), "grid_role is 't1', which is none of the roles image"),
        (request(role="t1"), "role 't1' is none of the model's"),
        (request(tensor="VOLUME.image.int16"), "of 'float32' voxels is none of"),
        (
            request(tensor="VOLUME.image.int16", dtype="int16"),
            "int16 is missing",
        ),
        (request(tensor="LABELS", dtype="uint8"), "LABELS"),
        (request(slope=0.0), "Slope 0.0"),
        (request(slope=2.0), "must be 1 and 0"),
        (request(slope=float("nan")), "Slope nan"),
    ],
)
def test_a_request_that_does_not_fit_the_model_says_why(
    pipeline: Pipeline, asked: bytes, problem: str
) -> None:
    with pytest.raises(RequestError, match=problem):
        answer_request(pipeline, DIGEST, asked, {FLOATS: volume()})


def test_labels_on_the_grid_of_another_role_are_refused(
    manifest_data: dict[str, Any], brightness_networks: Mapping[str, Network]
) -> None:
    manifest_data["roles"]["t1-gd"] = {
        **manifest_data["roles"]["image"],
        "use": "aligned",
        "align": {"to": "image", "by": "same-frame"},
    }
    pipeline = Pipeline(Manifest.model_validate(manifest_data), brightness_networks)
    with pytest.raises(RequestError, match=r"grid_role is t1-gd, but .* on the grid of image"):
        answer_request(pipeline, DIGEST, request(grid_role="t1-gd"), {FLOATS: volume()})


def test_every_role_has_to_be_sent(
    manifest_data: dict[str, Any], brightness_networks: Mapping[str, Network]
) -> None:
    manifest_data["roles"]["t1-gd"] = {
        **manifest_data["roles"]["image"],
        "use": "aligned",
        "align": {"to": "image", "by": "same-frame"},
    }
    pipeline = Pipeline(Manifest.model_validate(manifest_data), brightness_networks)
    with pytest.raises(RequestError, match="roles t1-gd are missing"):
        answer_request(pipeline, DIGEST, request(), {FLOATS: volume()})


def test_a_question_for_another_build_needs_no_volume(pipeline: Pipeline) -> None:
    question = pb.InferenceRequest().SerializeToString()
    labels, answer = answer_request(pipeline, DIGEST, question, {})
    assert answer.refusal.reason == "model_digest_mismatch"
    assert labels.shape == (1, 1, 1)
