"""A real Triton with small models of which some answer wrongly."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pytest

from models.build import tritonserver_command
from services.common.settings import TritonSettings
from tests.conftest import free_port

CACHE = Path(__file__).parents[3] / "build" / "cache"
READY_TIMEOUT_S = 60.0

_CONFIG = """
backend: "python"
max_batch_size: 0
input [
  { name: "REQUEST" data_type: TYPE_UINT8 dims: [-1] },
  { name: "VOLUME_IMAGE" data_type: TYPE_FP32 dims: [-1, -1, -1] }
]
output [
  { name: "LABELS" data_type: TYPE_UINT8 dims: [-1, -1, -1] },
  { name: "ANSWER" data_type: TYPE_UINT8 dims: [-1] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }
"""
_MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils
from axial.v1 import inference_pb2 as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name
        message = np.from_dlpack(tensor(request, "REQUEST"))
        asked = pb.InferenceRequest.FromString(message.tobytes())
        volume = np.from_dlpack(tensor(request, "VOLUME_IMAGE"))
        labels = np.ascontiguousarray(volume > 0.5).astype(np.uint8)
        answer = pb.InferenceAnswer(model_digest=asked.model_digest)
        {behaviour}
        encoded = np.frombuffer(answer.SerializeToString() or b"\\0", np.uint8).copy()
        return pb_utils.InferenceResponse([
            pb_utils.Tensor.from_dlpack("LABELS", labels),
            pb_utils.Tensor.from_dlpack("ANSWER", encoded),
        ])
"""
_BEHAVIOURS = {
    "right": "pass",
    "short": "labels = labels[:-1].copy()",
    "turned": "labels = np.ascontiguousarray(labels.transpose(2, 1, 0))",
    "other-build": 'answer.model_digest = "other"',
    "broken": 'raise ValueError("Doe^John")',
    "slow": "time.sleep(30)",
    "late": "time.sleep(1.5)",
    "refusing": 'answer.refusal.reason = "blank_image"; labels[:] = 0',
}


@dataclass(frozen=True, slots=True)
class SmallTriton:
    """A running Triton."""

    grpc_port: int
    process: subprocess.Popen[bytes]

    def settings(
        self, transport: Literal["shared_memory", "grpc"], deadline_s: float = 30.0
    ) -> TritonSettings:
        """Settings of a client of it."""
        return TritonSettings(
            grpc_address=f"127.0.0.1:{self.grpc_port}",
            transport=transport,
            infer_deadline_s=deadline_s,
        )


@pytest.fixture(scope="session")
def small_triton(tmp_path_factory: pytest.TempPathFactory) -> Generator[SmallTriton]:
    repository = tmp_path_factory.mktemp("small") / "repository"
    for name, behaviour in _BEHAVIOURS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL.replace("{behaviour}", behaviour))
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{_CONFIG}')
    http_port, grpc_port, metrics_port = (free_port() for _ in range(3))
    argv, environment = tritonserver_command(
        repository, [], http_port, grpc_port, metrics_port, cache=CACHE
    )
    log = repository.parent / "triton.log"
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=environment, stdout=out, stderr=out)
    try:
        _wait(process, http_port, log)
        yield SmallTriton(grpc_port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace")[-2000:])
