"""The pipeline in a real Triton: equal to deepbet, in source geometry, without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from axial.v1 import inference_pb2 as pb
from tritonclient.utils import InferenceServerException

from models.building.reference_volumes import ReferenceVolume
from models.evaluate import dice
from models.manifest import Precision
from models.runtime.orientation import closest_canonical
from models.runtime.source_volume import SourceVolume
from services.imaging.volume import Rescale, Volume
from tests.integration.models.conftest import RunningTriton, described, encoded, request_of

LEAST_DICE = {Precision.F32: 0.999, Precision.BF16: 0.995}


@pytest.fixture(scope="module")
def by_deepbet(head: ReferenceVolume) -> np.ndarray:
    """deepbet's own mask of the head, [k, j, i]."""
    bet = pytest.importorskip("deepbet.bet", reason="needs the package deepbet as the reference")
    from nibabel.nifti1 import Nifti1Image

    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine_lps
    image = Nifti1Image(head.pixels.transpose(2, 1, 0), affine_ras)
    _, mask, _ = bet.BrainExtraction(no_gpu=True).run(image)
    return np.asarray(mask.dataobj).astype(np.uint8).transpose(2, 1, 0)


def test_the_mask_equals_deepbets(
    triton_server: RunningTriton, head: ReferenceVolume, by_deepbet: np.ndarray
) -> None:
    labels, answer = triton_server.ask(head)
    assert labels.shape == head.pixels.shape
    assert labels.dtype == np.uint8
    assert dice(labels, by_deepbet) >= LEAST_DICE[triton_server.record.precision]
    assert [(one.number, one.voxels) for one in answer.segments] == [(1, int(labels.sum()))]


def test_the_answer_says_what_ran(triton_server: RunningTriton, head: ReferenceVolume) -> None:
    _, answer = triton_server.ask(head)
    record = triton_server.record
    assert answer.model_digest == record.digest
    assert [(one.network, one.target, one.precision) for one in answer.networks] == [
        ("coarse", "cpu", record.precision.value),
        ("fine", "cpu", record.precision.value),
    ]
    assert all(one.seconds > 0 for one in answer.networks)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_labels_follow_the_source_however_it_is_stored(
    triton_server: RunningTriton, head: ReferenceVolume, order: tuple[int, int, int]
) -> None:
    """Stored along other axes and backwards, the same head has the same mask in space."""
    upright, _ = triton_server.ask(head)
    turned = np.ascontiguousarray(head.pixels.transpose(order)[::-1, :, ::-1])
    # Columns of the affine are i, j, k; axes of the array are k, j, i.
    columns = [2 - order[2 - column] for column in range(3)]
    affine = head.affine_lps.copy()
    affine[:3, :3] = head.affine_lps[:3, columns]
    ends = np.array([turned.shape[2] - 1, 0, turned.shape[0] - 1], float)
    affine[:3, 3] += affine[:3, :3] @ ends
    affine[:3, 0] *= -1
    affine[:3, 2] *= -1
    labels, _ = triton_server.ask(ReferenceVolume(turned, affine))
    back = labels[::-1, :, ::-1].transpose(np.argsort(order))
    assert np.array_equal(back, upright)
    assert np.array_equal(
        closest_canonical(affine).apply(turned),
        closest_canonical(head.affine_lps).apply(head.pixels),
    )


def test_volumes_may_cross_by_system_shared_memory(
    triton_server: RunningTriton, head: ReferenceVolume
) -> None:
    expected, _ = triton_server.ask(head)
    client = triton_server.client
    sizes = {"in": head.pixels.nbytes, "out": head.pixels.size}
    regions: dict[str, Any] = {}
    try:
        for side, size in sizes.items():
            key = f"/axial-test-{triton_server.pid}-{side}"
            regions[side] = shm.create_shared_memory_region(side, key, size)
            client.register_system_shared_memory(side, key, size)
        shm.set_shared_memory_region(regions["in"], [head.pixels])
        labels = _ask_shared(triton_server, head, sizes, regions["out"])
    finally:
        _let_go(client)
        for region in regions.values():
            shm.destroy_shared_memory_region(region)
    assert np.array_equal(labels, expected)


def _let_go(client: triton.InferenceServerClient) -> None:
    """Triton answers a request before it has let go of its regions, and refuses until it has."""
    deadline = time.monotonic() + 10
    while True:
        try:
            client.unregister_system_shared_memory()
        except InferenceServerException:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def _ask_shared(
    server: RunningTriton, head: ReferenceVolume, sizes: dict[str, int], region: Any
) -> np.ndarray:
    message = request_of(SourceVolume(head.pixels, head.affine_lps), server.record.digest)
    request = encoded(message)
    volume = triton.InferInput(*described(head.pixels))
    volume.set_shared_memory("in", sizes["in"])
    labels = triton.InferRequestedOutput("LABELS")
    labels.set_shared_memory("out", sizes["out"])
    outputs = [labels, triton.InferRequestedOutput("ANSWER")]
    result = server.client.infer(server.name, [request, volume], outputs=outputs)
    answer = pb.InferenceAnswer.FromString(result.as_numpy("ANSWER").tobytes())
    assert not answer.HasField("refusal")
    return shm.get_contents_as_numpy(region, np.uint8, head.pixels.shape).copy()


def test_a_request_for_another_build_is_refused(
    triton_server: RunningTriton, head: ReferenceVolume
) -> None:
    labels, answer = triton_server.ask(head, digest="0" * 64)
    assert answer.refusal.reason == "model_digest_mismatch"
    assert not labels.any()


def test_a_wrong_request_is_answered_by_an_error_and_the_next_is_served(
    triton_server: RunningTriton, head: ReferenceVolume
) -> None:
    with pytest.raises(InferenceServerException, match="the affine has 3 numbers"):
        triton_server.ask(head, affine=[1.0, 2.0, 3.0])
    with pytest.raises(InferenceServerException, match="no length"):
        triton_server.ask(head, affine=[0.0] * 16)
    labels, _ = triton_server.ask(head)
    assert labels.any()


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [("int16", 1.0, 0.0), ("int16", 0.37, -1024.5), ("uint16", 1.0, 0.0), ("uint16", 2.5, 3.0)],
)
def test_voxels_as_they_are_stored_have_the_mask_of_their_values(
    triton_server: RunningTriton, head: ReferenceVolume, dtype: str, slope: float, intercept: float
) -> None:
    stored = SourceVolume(np.round(head.pixels).astype(dtype), head.affine_lps, slope, intercept)
    rescale = Rescale(slope, intercept)
    values = Volume(stored.voxels.astype(np.int16), head.affine_lps, rescale=rescale).values()
    expected, _ = triton_server.ask(ReferenceVolume(values, head.affine_lps))
    labels, answer = triton_server.send(
        request_of(stored, triton_server.record.digest), stored.voxels
    )
    assert expected.any()
    assert np.array_equal(labels, expected)
    (output,) = answer.outputs
    assert (output.name, output.kind, output.tensor) == ("labels", "layers", "LABELS")
    assert (output.dtype, output.grid_role) == ("uint8", "image")


def test_a_model_can_be_asked_without_a_volume(triton_server: RunningTriton) -> None:
    result = triton_server.client.infer(triton_server.name, [_question()], client_timeout=5)
    answer = pb.InferenceAnswer.FromString(result.as_numpy("ANSWER").tobytes())
    assert answer.refusal.reason == "model_digest_mismatch"
    assert result.as_numpy("LABELS").shape == (1, 1, 1)


def test_a_blank_image_is_refused_and_a_tiny_one_is_served(triton_server: RunningTriton) -> None:
    blank = ReferenceVolume(np.zeros((20, 30, 40), np.float32), np.eye(4))
    labels, answer = triton_server.ask(blank)
    assert answer.refusal.reason == "blank_image"
    assert labels.shape == (20, 30, 40)
    noise = np.random.default_rng(0).random((1, 2, 3), dtype=np.float32)
    labels, _ = triton_server.ask(ReferenceVolume(noise, np.eye(4)))
    assert labels.shape == (1, 2, 3)


def test_a_job_that_nobody_waits_for_ends_between_two_passes(
    triton_server: RunningTriton, head: ReferenceVolume
) -> None:
    volume = SourceVolume(head.pixels, head.affine_lps)
    message = encoded(request_of(volume, triton_server.record.digest))
    voxels = triton.InferInput(*described(head.pixels))
    voxels.set_data_from_numpy(head.pixels)
    # The caller goes away while the volume is prepared, or in the first pass: however fast the
    # machine is, one of these falls there.
    patience_s = 0.05
    while b"nobody waits for it" not in triton_server.log.read_bytes():
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            triton_server.client.infer(
                triton_server.name, [message, voxels], client_timeout=patience_s
            )
        patience_s *= 1.3
        # Answered when the model is free again, and has written what it wrote.
        triton_server.client.infer(triton_server.name, [_question()], client_timeout=60)
    labels, _ = triton_server.ask(head)
    assert labels.any()


def _question() -> Any:
    return encoded(pb.InferenceRequest(model_digest=""))


def test_the_model_tells_its_digest(triton_server: RunningTriton) -> None:
    config = triton_server.client.get_model_config(triton_server.name).config
    assert config.parameters["axial.digest"].string_value == triton_server.record.digest


def test_no_torch_is_loaded_where_the_networks_run(
    triton_server: RunningTriton, head: ReferenceVolume
) -> None:
    triton_server.ask(head)
    maps = Path(f"/proc/{triton_server.stub_pid}/maps").read_text()
    assert "openvino" in maps
    assert "torch" not in maps


def test_the_stub_stays_small(triton_server: RunningTriton, head: ReferenceVolume) -> None:
    triton_server.ask(head)
    status = Path(f"/proc/{triton_server.stub_pid}/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kib < 1_200_000
