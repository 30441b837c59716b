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
from numpy.typing import NDArray

from models.building import build_model, fetch_demo_head, repository_folder
from models.building.fetching import fetch_source_file
from models.building.network_modules import save_network
from models.building.reference_volumes import ReferenceVolume, read_nifti
from models.manifest import (
    TRITON_DATATYPES,
    BuildRecord,
    Target,
    load_manifest,
    triton_model_name,
    volume_tensor_name,
)
from models.runtime.source_volume import SourceVolume
from tests.builders.triton import running_triton

CHECKOUT = Path(__file__).resolve().parents[3]
CATALOGUE = CHECKOUT / "models" / "catalogue"
CACHE = CHECKOUT / "build" / "cache"
_READY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class RunningTriton:
    """A Triton that serves one model; `stub_pid` is the Python process inside it.

    Attributes:
        log: what it prints.
    """

    client: Any
    pid: int
    stub_pid: int
    record: BuildRecord
    log: Path

    @property
    def name(self) -> str:
        """The model's name in Triton."""
        return triton_model_name(self.record.model, self.record.digest)

    def ask(
        self,
        head: ReferenceVolume,
        *,
        digest: str | None = None,
        affine: list[float] | None = None,
    ) -> tuple[np.ndarray, pb.InferenceAnswer]:
        """Send one volume over gRPC; labels uint8 [k, j, i] and the answer."""
        volume = SourceVolume(head.pixels, head.affine_lps)
        message = request_of(volume, digest or self.record.digest)
        if affine is not None:
            message.roles[0].affine_lps[:] = affine
        return self.send(message, volume.voxels)

    def send(
        self, message: pb.InferenceRequest, voxels: NDArray[Any]
    ) -> tuple[np.ndarray, pb.InferenceAnswer]:
        """Send a request beside voxels, as the type they have."""
        volume = triton.InferInput(*described(voxels))
        volume.set_data_from_numpy(voxels)
        result = self.client.infer(self.name, [encoded(message), volume], client_timeout=60)
        answer = pb.InferenceAnswer.FromString(result.as_numpy("ANSWER").tobytes())
        return result.as_numpy("LABELS"), answer


def request_of(volume: SourceVolume, digest: str) -> pb.InferenceRequest:
    """The request for the labels of one volume."""
    return pb.InferenceRequest(
        job_uid="2.25.1",
        model_digest=digest,
        grid_role="image",
        roles=[
            pb.RoleVolume(
                role="image",
                affine_lps=volume.affine_lps.ravel().tolist(),
                dtype=volume.voxels.dtype.name,
                slope=volume.slope,
                intercept=volume.intercept,
                tensor=described(volume.voxels)[0],
            )
        ],
    )


def described(voxels: NDArray[Any]) -> tuple[str, list[int], str]:
    """Name, shape and type of the input that carries voxels."""
    dtype: Any = voxels.dtype.name
    return volume_tensor_name("image", dtype), list(voxels.shape), TRITON_DATATYPES[dtype]


def encoded(message: pb.InferenceRequest) -> Any:
    """A request as the input that carries it."""
    content = np.frombuffer(message.SerializeToString(), np.uint8)
    tensor = triton.InferInput("REQUEST", list(content.shape), "UINT8")
    tensor.set_data_from_numpy(content)
    return tensor


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
def catalogue_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fine network with its threshold, as TorchScript."""
    manifest = load_manifest(CATALOGUE / "brain-extraction")
    network = manifest.networks["fine"]
    weights = network.weights
    folder = CATALOGUE / manifest.name
    trained = fetch_source_file(folder, manifest, weights.source, weights.path, CACHE)
    file = tmp_path_factory.mktemp("module") / "fine.pt"
    save_network(network, manifest.head_of("fine"), trained, file)
    return file


@pytest.fixture(scope="session")
def head() -> ReferenceVolume:
    """A whole head with skull and face."""
    return read_nifti(fetch_demo_head(CACHE))


@pytest.fixture(scope="session")
def triton_server(
    built: BuildRecord, build_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[RunningTriton]:
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    repository = repository_folder(build_root, Target.CPU)
    name = triton_model_name(built.model, built.digest)
    with running_triton(repository, [name], log) as running:
        pid = running.process.pid
        yield RunningTriton(running.client, pid, _child_of(pid), built, log)


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
