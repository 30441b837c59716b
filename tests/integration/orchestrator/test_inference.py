"""The inference client against a real Triton: right answers are taken, wrong ones never."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from services.common.settings import TritonSettings
from services.imaging import Volume
from services.imaging.volume import Rescale
from services.orchestrator import inference, regions
from services.orchestrator.errors import InferenceFailed, ModelUnavailable
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.sent_volumes import sent
from tests.builders.network import free_port
from tests.builders.triton import TritonUnderTest, open_client
from tests.builders.trust import credentials

Transport = Literal["shared_memory", "grpc"]
DIGEST = "d" * 64
# The tests of this file run in several processes at once: each is an owner of its own.
OWNER = f"testowner{os.getpid()}"


@pytest.fixture
def volume() -> Volume:
    values = np.random.default_rng(7).random((5, 6, 7), np.float32)
    return Volume(values, np.diag([1.0, 2.0, 3.0, 1.0]))


@pytest.fixture(params=["shared_memory", "grpc"])
def client(
    request: pytest.FixtureRequest, small_triton: TritonUnderTest
) -> Generator[InferenceClient]:
    with opened_client(small_triton.settings(request.param)) as opened:
        yield opened
    assert list(Path("/dev/shm").glob(f"axial-{OWNER}.*")) == []


def opened_client(settings: TritonSettings, owner: str = OWNER) -> InferenceClient:
    return InferenceClient(settings, owner, credentials("orchestrator"))


def _infer(client: InferenceClient, model: str, volume: Volume) -> inference.Inference:
    volumes = {"image": sent("image", volume, "1.2.3")}
    request = request_for("2.25.1", DIGEST, "image", volumes, "")
    return client.infer(model, request, volumes)


def _labels(result: inference.Inference) -> npt.NDArray[np.uint8]:
    (output,) = result.outputs
    assert (output.name, output.kind, output.grid_role) == ("labels", "layers", "image")
    assert output.array is not None
    return output.array


def test_labels_come_back_voxel_for_voxel(client: InferenceClient, volume: Volume) -> None:
    result = _infer(client, "right", volume)
    np.testing.assert_array_equal(_labels(result), volume.array > 0.5)
    assert result.answer.model_digest == DIGEST


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_stored_values_cross_as_they_are_with_their_meaning(
    client: InferenceClient, kind: type[np.int16 | np.uint16]
) -> None:
    ends = np.iinfo(kind)
    stored = np.linspace(ends.min, ends.max, 210).astype(kind).reshape(5, 6, 7)
    volume = Volume(stored, np.eye(4), rescale=Rescale(0.001, -2.0))
    role = sent("image", volume)
    assert (role.stored_as, role.nbytes) == (np.dtype(kind).name, 2 * stored.size)
    labels = _labels(_infer(client, "right", volume))
    np.testing.assert_array_equal(labels, volume.values() > 0.5)
    assert 0 < labels.sum() < labels.size


def test_a_volume_of_which_some_was_not_measured_crosses_as_values(
    client: InferenceClient,
) -> None:
    stored = np.ones((5, 6, 7), np.int16)
    padding = np.zeros(stored.shape, np.bool_)
    padding[:, :2] = True
    volume = Volume(stored, np.eye(4), padding=padding)
    assert sent("image", volume).stored_as == "float32"
    np.testing.assert_array_equal(_labels(_infer(client, "right", volume)), ~padding)


@pytest.mark.parametrize(
    ("model", "problem"),
    [("silent", "no output"), ("elsewhere", "grid of other"), ("newer", "kind surface")],
)
def test_outputs_that_were_not_asked_for_are_refused(
    client: InferenceClient, volume: Volume, model: str, problem: str
) -> None:
    with pytest.raises(InferenceFailed, match=problem):
        _infer(client, model, volume)


def test_model_that_is_not_loaded_is_loaded(client: InferenceClient, volume: Volume) -> None:
    client.ensure_loaded("right")
    assert _labels(_infer(client, "right", volume)).shape == volume.array.shape


@pytest.mark.parametrize("model", ["short", "turned"])
def test_labels_of_another_shape_are_refused(
    client: InferenceClient, volume: Volume, model: str
) -> None:
    with pytest.raises(InferenceFailed, match="shape"):
        _infer(client, model, volume)


def test_answer_of_another_build_is_refused(client: InferenceClient, volume: Volume) -> None:
    with pytest.raises(InferenceFailed, match="another build"):
        _infer(client, "other-build", volume)


def test_refusal_of_the_pipeline_is_an_answer(client: InferenceClient, volume: Volume) -> None:
    assert _infer(client, "refusing", volume).answer.refusal.reason == "blank_image"


def test_model_that_breaks_off_fails_for_good(client: InferenceClient, volume: Volume) -> None:
    with pytest.raises(InferenceFailed) as error:
        _infer(client, "broken", volume)
    assert not error.value.retryable


def test_unknown_model_is_unavailable(client: InferenceClient, volume: Volume) -> None:
    with pytest.raises(ModelUnavailable):
        _infer(client, "nowhere", volume)


def test_deadline_ends_a_hanging_model_and_is_not_tried_again(
    small_triton: TritonUnderTest, volume: Volume
) -> None:
    settings = small_triton.settings("shared_memory", deadline_s=0.5)
    with opened_client(settings) as client, pytest.raises(InferenceFailed) as error:
        _infer(client, "slow", volume)
    assert not error.value.retryable


def test_memory_of_a_late_answer_is_given_back_once_the_model_is_done(
    small_triton: TritonUnderTest, volume: Volume
) -> None:
    owner = f"late{OWNER}"
    server = open_client(small_triton.grpc_port)

    def registered() -> list[str]:
        status: Any = server.get_system_shared_memory_status()
        return [name for name in status.regions if name.startswith(f"axial-{owner}.")]

    with (
        opened_client(small_triton.settings("shared_memory", deadline_s=0.3), owner) as impatient,
        pytest.raises(InferenceFailed),
    ):
        _infer(impatient, "late", volume)
    # Another process of this name finds the registrations, and a job later they are gone.
    with opened_client(small_triton.settings("shared_memory"), owner) as client:
        _infer(client, "late", volume)
        _infer(client, "right", volume)
    assert registered() == []


def test_silent_server_is_unavailable_and_said_so(volume: Volume) -> None:
    settings = TritonSettings(grpc_address=f"127.0.0.1:{free_port()}")
    with opened_client(settings) as client:
        assert client.problem() is not None
        with pytest.raises(ModelUnavailable) as error:
            _infer(client, "right", volume)
    assert error.value.retryable


def test_too_little_shared_memory_is_noticed_before_it_is_written(
    small_triton: TritonUnderTest, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "_ROOM_FOR_OTHERS", 1 << 60)
    with (
        opened_client(small_triton.settings("shared_memory")) as client,
        pytest.raises(ModelUnavailable, match="MiB free"),
    ):
        _infer(client, "right", volume)


def test_what_a_dead_process_left_in_shared_memory_is_removed(
    small_triton: TritonUnderTest,
) -> None:
    left_over = Path(f"/dev/shm/axial-{OWNER}.0123abcd-image")
    other = Path(f"/dev/shm/axial-{OWNER}-1.0123abcd-image")
    left_over.write_bytes(b"x")
    other.write_bytes(b"x")
    try:
        with opened_client(small_triton.settings("shared_memory")):
            assert not left_over.exists()
            assert other.exists()
    finally:
        other.unlink()
