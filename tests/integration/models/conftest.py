"""A built model and a running Triton, once per session."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from axial.v1 import inference_pb2 as pb

from models.building import build_model, fetch_demo_head, repository_folder
from models.building.heads import HeadVolume, read_head
from models.manifest import BuildRecord, Target
from tests.builders.triton import running_triton

CHECKOUT = Path(__file__).resolve().parents[3]
CATALOGUE = CHECKOUT / "models" / "catalogue"
CACHE = CHECKOUT / "build" / "cache"
_READY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class RunningTriton:
    """A Triton that serves one model; `stub_pid` is the Python process inside it."""

    client: Any
    pid: int
    stub_pid: int
    record: BuildRecord

    def ask(
        self,
        head: HeadVolume,
        *,
        digest: str | None = None,
        affine: list[float] | None = None,
    ) -> tuple[np.ndarray, pb.InferenceAnswer]:
        """Send one volume over gRPC; labels uint8 [k, j, i] and the answer."""
        numbers = head.affine_lps.ravel().tolist() if affine is None else affine
        message = pb.InferenceRequest(
            job_uid="2.25.1",
            model_digest=digest or self.record.digest,
            roles=[pb.RoleVolume(role="image", affine_lps=numbers)],
        )
        encoded = np.frombuffer(message.SerializeToString(), np.uint8)
        request = triton.InferInput("REQUEST", list(encoded.shape), "UINT8")
        request.set_data_from_numpy(encoded)
        volume = triton.InferInput("VOLUME_IMAGE", list(head.pixels.shape), "FP32")
        volume.set_data_from_numpy(head.pixels)
        result = self.client.infer(self.record.model, [request, volume], client_timeout=60)
        answer = pb.InferenceAnswer.FromString(result.as_numpy("ANSWER").tobytes())
        return result.as_numpy("LABELS"), answer


@pytest.fixture(scope="session")
def build_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where builds lie: the checkout's own, so that a built model is not built again."""
    return CHECKOUT / "build" / "models"


@pytest.fixture(scope="session")
def built(build_root: Path) -> BuildRecord:
    """The model, built for the CPU; one of several test processes builds, the others wait."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_model(CATALOGUE / "brain-extraction", "cpu", build_root, cache=CACHE)


@pytest.fixture(scope="session")
def head() -> HeadVolume:
    """A whole head with skull and face."""
    return read_head(fetch_demo_head(CACHE))


@pytest.fixture(scope="session")
def triton_server(
    built: BuildRecord, build_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[RunningTriton]:
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    repository = repository_folder(build_root, Target.CPU)
    with running_triton(repository, [built.model], log) as running:
        pid = running.process.pid
        yield RunningTriton(running.client, pid, _child_of(pid), built)


def _child_of(pid: int) -> int:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and folder.name != str(os.getpid()):
                return int(folder.name)
    pytest.fail(f"process {pid} has no child: the Python stub is not running")
