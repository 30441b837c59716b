"""A built model and a running Triton, once per session."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from axial.v1 import inference_pb2 as pb
from tritonclient.utils import InferenceServerException

from models.build import build_model, fetch_demo_head, repository_folder, tritonserver_command
from models.build.heads import HeadVolume, read_head
from models.manifest import BuildRecord, Target
from tests.conftest import free_port

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
    repository = repository_folder(build_root, Target.CPU)
    ports = [free_port() for _ in range(3)]
    argv, environment = tritonserver_command(repository, [built.model], *ports, cache=CACHE)
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    with log.open("w") as output:
        server = subprocess.Popen(argv, env=environment, stdout=output, stderr=output)
    client = triton.InferenceServerClient(f"127.0.0.1:{ports[1]}")
    try:
        _await_ready(server, client, built.model, log)
        yield RunningTriton(client, server.pid, _child_of(server.pid), built)
    finally:
        client.close()
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_ready(server: subprocess.Popen[bytes], client: Any, model: str, log: Path) -> None:
    end = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            if client.is_model_ready(model):
                return
        except InferenceServerException:
            pass
        time.sleep(0.05)
    pytest.fail(f"Triton is not ready: {log.read_text()[-4000:]}")


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
