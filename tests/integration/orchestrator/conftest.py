"""A real Triton with small models of which some answer wrongly."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest

from models.building.repository import say_served
from models.manifest import build_folder, triton_model_name
from tests.builders.builds import write_build
from tests.builders.catalogue import CATALOGUE, MODEL
from tests.builders.triton import TritonUnderTest, running_triton
from tests.builders.worker import Worker, running_worker

_CONFIG = """
backend: "python"
max_batch_size: 0
input [
  { name: "REQUEST" data_type: TYPE_UINT8 dims: [-1] },
  { name: "VOLUME.image.int16" data_type: TYPE_INT16 dims: [-1, -1, -1] optional: true },
  { name: "VOLUME.image.uint16" data_type: TYPE_UINT16 dims: [-1, -1, -1] optional: true },
  { name: "VOLUME.image.float32" data_type: TYPE_FP32 dims: [-1, -1, -1] optional: true }
]
output [
  { name: "LABELS" data_type: TYPE_UINT8 dims: [-1, -1, -1] },
  { name: "ANSWER" data_type: TYPE_UINT8 dims: [-1] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }
"""
_MODEL = """
import os
import time
import numpy as np
import triton_python_backend_utils as pb_utils
from axial.v1 import inference_pb2 as pb
from models.runtime.progress_metric import ProgressMetric


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name
        message = np.from_dlpack(tensor(request, "REQUEST"))
        asked = pb.InferenceRequest.FromString(message.tobytes())
        (sent,) = asked.roles or [pb.RoleVolume(tensor="VOLUME.image.float32", slope=1)]
        volume = np.from_dlpack(tensor(request, sent.tensor)) * sent.slope + sent.intercept
        labels = np.ascontiguousarray(volume > 0.5).astype(np.uint8)
        answer = pb.InferenceAnswer(model_digest=asked.model_digest)
        answer.outputs.add(
            name="labels", kind="layers", tensor="LABELS", dtype="uint8", grid_role="image"
        )
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
    "silent": "del answer.outputs[:]",
    "elsewhere": 'answer.outputs[0].grid_role = "other"',
    "newer": 'answer.outputs[0].kind = "surface"',
    # Works on until the file is there that the request names as its trace.
    "telling": """self.progress = ProgressMetric()
        self.progress.tell(asked.job_uid, 0.25)
        while not os.path.exists(asked.traceparent):
            time.sleep(0.01)
        self.progress.forget()""",
    "refusing": 'answer.refusal.reason = "blank_image"; labels[:] = 0',
}


def write_small_models(repository: Path, *names: str) -> Path:
    """Writes small models into a repository, all by default; returns it."""
    for name in names or _BEHAVIOURS:
        _write(repository / name, name)
    return repository


def digest_of(name: str) -> str:
    """The digest under which a small model is said to be built."""
    return hashlib.sha256(name.encode()).hexdigest()


def write_served_models(output_root: Path, *names: str) -> list[str]:
    """Writes small models as builds that are to be served; returns their names in Triton."""
    text = (CATALOGUE / MODEL / "model.yaml").read_text(encoding="utf-8")
    for name in names:
        record = write_build(output_root, name, digest_of(name))
        folder = build_folder(output_root, "cpu", name, record.digest)
        _write(folder, name)
        manifest = text.replace(f"name: {MODEL}", f"name: {name}", 1)
        (folder / "1" / "manifest.yaml").write_text(manifest, encoding="utf-8")
        say_served(output_root, record)
    return [triton_model_name(name, digest_of(name)) for name in names]


def _write(folder: Path, behaviour: str) -> None:
    (folder / "1").mkdir(parents=True)
    program = _MODEL.replace("{behaviour}", _BEHAVIOURS[behaviour])
    (folder / "1" / "model.py").write_text(program)
    (folder / "config.pbtxt").write_text(f'name: "{folder.name}"\n{_CONFIG}')


@pytest.fixture(scope="session")
def small_triton(tmp_path_factory: pytest.TempPathFactory) -> Generator[TritonUnderTest]:
    repository = write_small_models(tmp_path_factory.mktemp("small") / "repository")
    with running_triton(repository, [], repository.parent / "triton.log") as running:
        yield running


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Generator[Worker]:
    """The worker of this process."""
    with running_worker(tmp_path_factory.mktemp("worker")) as running:
        yield running
