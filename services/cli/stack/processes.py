"""Which processes the stack has on one machine, and how each is seen to be ready."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from models.building import TritonDoor, tritonserver_command
from models.manifest import (
    Manifest,
    ServedBuild,
    load_catalogue,
    repository_folder,
    served_builds,
)
from services.cli.output import CommandError
from services.common.settings import Destination, Settings
from services.common.stub_regions import close_to_others, sweep_after_server
from services.common.trust import Credentials

CACHE = Path("build/cache")


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """A process of the stack.

    Attributes:
        ready_urls: all answer 200 once the process is ready; none: it is ready when its port
            listens.
        ready_port: a TCP port that listens once the process is ready, where there is no HTTP.
        environment: the whole environment, or None for the supervisor's own.
        stop_order: processes with a lower number are stopped first.
        guard: closes what the process makes to others; called again and again while it starts.
        tidy: tidies up what a killed process left; called before each start and at the end.
    """

    name: str
    argv: Sequence[str]
    ready_urls: Sequence[str] = ()
    ready_port: int | None = None
    environment: Mapping[str, str] | None = None
    stop_order: int = 0
    folder: Path = field(default_factory=Path.cwd)
    tidy: Callable[[], object] | None = None
    guard: Callable[[], object] | None = None


def stack_processes(settings: Settings, stand_in_pacs: Path | None) -> list[ManagedProcess]:
    """The processes that `axial up` runs.

    Args:
        settings: the settings; Triton is started only when its address is on loopback.
        stand_in_pacs: folder of a stand-in PACS that is run beside the stack, at the place of
            the first configured destination.

    Raises:
        CommandError: models are not built, or there is no destination to stand in for.
    """
    processes = [_service("listener", settings.listener.health_port, 0)]
    own_triton = settings.triton.grpc_address.rpartition(":")[0] in ("127.0.0.1", "localhost")
    given = settings.triton.control_key
    key = secrets.token_urlsafe(32) if given is None else given.get_secret_value()
    # Nobody but Triton and the orchestrator has the key: not in a file, not in the supervisor's
    # own environment, which every other process has too.
    with_key = {**os.environ, "AXIAL_TRITON__CONTROL_KEY": key} if own_triton else None
    processes.append(_service("orchestrator", settings.orchestrator.health_port, 1, with_key))
    processes.append(_service("reporting", settings.reporting.health_port, 2))
    gateway = f"http://{settings.gateway.host}:{settings.gateway.port}/readyz"
    processes.append(ManagedProcess("gateway", _python("gateway"), (gateway,), stop_order=3))
    if own_triton:
        # Triton takes longest and is waited for by nobody at start, so it is started first.
        processes.insert(0, _triton(settings, key))
    if stand_in_pacs is not None:
        if not settings.reporting.destinations:
            raise CommandError("A stand-in PACS needs a destination in reporting.destinations.")
        processes.append(_pacs(settings.reporting.destinations[0], stand_in_pacs))
    return processes


def _service(
    name: str,
    health_port: int,
    stop_order: int,
    environment: Mapping[str, str] | None = None,
) -> ManagedProcess:
    url = f"http://127.0.0.1:{health_port}/healthz"
    return ManagedProcess(
        name, _python(name), (url,), environment=environment, stop_order=stop_order
    )


def _python(service: str) -> list[str]:
    return [sys.executable, "-m", f"services.{service}"]


def _triton(settings: Settings, control_key: str) -> ManagedProcess:
    triton = settings.triton
    grpc_port = int(triton.grpc_address.rpartition(":")[2])
    own = Credentials("triton", settings.certificates_dir / "triton")
    argv, environment = tritonserver_command(
        repository_folder(triton.repository, triton.target),
        _builds_to_load(settings),
        TritonDoor(own.certificate, own.key, own.authority, control_key),
        grpc_port=grpc_port,
        metrics_port=triton.metrics_port,
        cache=CACHE,
        threads=triton.threads,
        idle_release_s=triton.idle_release_s,
    )
    # Its ports are opened when the models are loaded, not before.
    return ManagedProcess(
        "triton",
        argv,
        ready_port=grpc_port,
        environment=environment,
        stop_order=4,
        tidy=sweep_after_server,
        guard=close_to_others,
    )


def _builds_to_load(settings: Settings) -> list[str]:
    """Names in Triton of the builds that are to be served; every model of the catalogue has one."""
    triton = settings.triton
    served = served_builds(triton.repository, triton.target)
    broken = [one for one in served if not isinstance(one, ServedBuild)]
    if broken:
        raise CommandError(f"{broken[0].file}: {broken[0].problem}")
    builds = {one.model: one.triton_name for one in served if isinstance(one, ServedBuild)}
    manifests = load_catalogue(settings.catalogue_dir)
    names = [manifest.identity.name for manifest in manifests]
    missing = [name for name in names if name not in builds]
    if missing:
        raise CommandError(
            f"Not built for {triton.target}: {', '.join(missing)}. Run: axial models build"
        )
    _require_memory(manifests)
    return [builds[name] for name in names]


def _require_memory(manifests: Sequence[Manifest]) -> None:
    """All models are loaded at once: what they need is there, or the machine ends one of them."""
    wanted = sum(manifest.resources.host_memory_mib for manifest in manifests)
    there = psutil.virtual_memory().total >> 20
    if wanted > there:
        each = ", ".join(
            f"{manifest.name} {manifest.resources.host_memory_mib}" for manifest in manifests
        )
        raise CommandError(
            f"The models need {wanted} MiB of memory ({each}), and this machine has {there}. Take "
            "a model out of the catalogue, or a larger machine."
        )


def _pacs(destination: Destination, folder: Path) -> ManagedProcess:
    """pynetdicom's own storage and query application; a stand-in, not a product."""
    folder = folder.absolute()
    (folder / "instances").mkdir(parents=True, exist_ok=True)
    argv = [
        *(sys.executable, "-m", "pynetdicom", "qrscp", "--quiet"),
        *("--ae-title", destination.ae_title),
        *("--bind-address", destination.host),
        *("--port", str(destination.port)),
        *("--database-location", str(folder / "index.sqlite")),
        *("--instance-location", str(folder / "instances")),
    ]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return ManagedProcess(
        "stand-in-pacs", argv, (), destination.port, environment, stop_order=5, folder=folder
    )
