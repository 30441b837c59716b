"""The contract between orchestrator and pipeline model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from axial.v1 import inference_pb2 as pb

from models.manifest import Manifest, volume_tensor_name
from models.runtime.errors import RequestError
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.serving import answer_request

DIGEST = "d" * 64


@pytest.fixture
def pipeline(small_manifest: Manifest, brightness_networks: Mapping[str, Network]) -> Pipeline:
    return Pipeline(small_manifest, brightness_networks)


def volume() -> np.ndarray:
    pixels = np.zeros((30, 30, 30), np.float32)
    pixels[8:22, 8:22, 8:22] = 50.0
    return pixels


def request(digest: str = DIGEST, numbers: int = 16) -> bytes:
    message = pb.InferenceRequest(job_uid="2.25.1", model_digest=digest)
    affine = np.eye(4).ravel().tolist()
    message.roles.add(role="image", affine_lps=affine[:numbers])
    return message.SerializeToString()


def test_an_answer_counts_the_voxels_of_its_labels(pipeline: Pipeline) -> None:
    labels, answer = answer_request(pipeline, DIGEST, request(), {"image": volume()})
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
    labels, answer = answer_request(pipeline, DIGEST, request("e" * 64), {"image": volume()})
    assert answer.refusal.reason == "model_digest_mismatch"
    assert dict(answer.refusal.values) == {"wanted": "e" * 64, "served": DIGEST}
    assert labels.shape == (30, 30, 30)
    assert not labels.any()
    assert not answer.networks


def test_a_blank_image_is_refused_with_zero_labels(pipeline: Pipeline) -> None:
    blank = np.zeros((30, 30, 30), np.float32)
    labels, answer = answer_request(pipeline, DIGEST, request(), {"image": blank})
    assert answer.refusal.reason == "blank_image"
    assert not labels.any()
    assert not answer.segments


def test_bytes_that_are_no_request_are_an_error(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="no InferenceRequest"):
        answer_request(pipeline, DIGEST, b"\xff\xff\xff", {"image": volume()})


def test_an_affine_needs_sixteen_numbers(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="15 numbers"):
        answer_request(pipeline, DIGEST, request(numbers=15), {"image": volume()})


def test_a_role_names_its_tensor() -> None:
    assert volume_tensor_name("image") == "VOLUME_IMAGE"
    assert volume_tensor_name("t1-gd") == "VOLUME_T1_GD"
