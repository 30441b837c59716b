"""A real Triton with small models of which some answer wrongly."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.builders.triton import TritonUnderTest, running_triton

_CONFIG = """
backend: "python"
max_batch_size: 0
input [
  { name: "REQUEST" data_type: TYPE_UINT8 dims: [-1] },
  { name: "VOLUME.image.float32" data_type: TYPE_FP32 dims: [-1, -1, -1] }
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
        volume = np.from_dlpack(tensor(request, "VOLUME.image.float32"))
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


def write_small_models(repository: Path, *names: str) -> Path:
    """Writes small models into a repository, all by default; returns it."""
    for name in names or _BEHAVIOURS:
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL.replace("{behaviour}", _BEHAVIOURS[name]))
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{_CONFIG}')
    return repository


@pytest.fixture(scope="session")
def small_triton(tmp_path_factory: pytest.TempPathFactory) -> Generator[TritonUnderTest]:
    repository = write_small_models(tmp_path_factory.mktemp("small") / "repository")
    with running_triton(repository, [], repository.parent / "triton.log") as running:
        yield running
