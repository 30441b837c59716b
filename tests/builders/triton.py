"""A real Triton for tests, behind certificates and a key as `axial up` runs it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tritonclient.grpc as triton
from pydantic import SecretStr
from tritonclient.utils import InferenceServerException

from models.building import TritonDoor, tritonserver_command
from services.common.rpc import channel_credentials
from services.common.settings import TritonSettings
from services.orchestrator.triton_connection import CHANNEL_OPTIONS, ControlKey
from tests.builders.network import free_port
from tests.builders.trust import credentials

CACHE = Path(__file__).resolve().parents[2] / "build" / "cache"
CONTROL_KEY = "the-key-of-this-test"
_READY_WITHIN_S = 120.0
_ENDS_WITHIN_S = 30.0


@dataclass(slots=True)
class TritonUnderTest:
    """A running Triton.

    Attributes:
        process: the one that runs now.
        http_port: None where HTTP is not opened.
        client: the library's own, with certificate and key.
        start: starts a Triton like it, and waits until it is ready.
    """

    process: subprocess.Popen[bytes]
    grpc_port: int
    http_port: int | None
    metrics_port: int
    client: Any
    start: Callable[[], subprocess.Popen[bytes]]

    def start_again(self) -> None:
        """What `axial up` and Kubernetes do when it has ended: another, at the same ports."""
        assert self.process.wait(_ENDS_WITHIN_S) != 0
        self.process = self.start()

    def settings(
        self,
        transport: Literal["shared_memory", "grpc"] = "shared_memory",
        deadline_s: float = 30.0,
    ) -> TritonSettings:
        """Settings of a client of it."""
        return TritonSettings(
            grpc_address=f"127.0.0.1:{self.grpc_port}",
            metrics_port=self.metrics_port,
            transport=transport,
            infer_deadline_s=deadline_s,
            control_key=SecretStr(CONTROL_KEY),
        )


def open_client(
    grpc_port: int, *, caller: str = "orchestrator", key: str | None = CONTROL_KEY
) -> Any:
    """The library's client, with a component's certificate; close it."""
    client = triton.InferenceServerClient(
        f"127.0.0.1:{grpc_port}",
        creds=channel_credentials(credentials(caller)),
        channel_args=CHANNEL_OPTIONS,
    )
    if key is not None:
        client.register_plugin(ControlKey(key))
    return client


@contextmanager
def running_triton(
    repository: Path,
    models: Sequence[str],
    log: Path,
    *,
    http: bool = False,
    control_key: str = CONTROL_KEY,
    environment: Mapping[str, str] | None = None,
) -> Generator[TritonUnderTest]:
    """Runs a Triton until the context is left; it is ready, and has loaded the models.

    Args:
        http: whether it answers on HTTP too, as the chart has it for its probes.
    """
    grpc_port, metrics_port = free_port(), free_port()
    http_port = free_port() if http else None
    own = credentials("triton")
    argv, inherited = tritonserver_command(
        repository,
        models,
        TritonDoor(own.certificate, own.key, own.authority, control_key),
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        cache=CACHE,
    )
    if http_port is not None:
        argv = _with_http(argv, http_port)
    client = open_client(grpc_port, key=control_key)
    begun: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            process = subprocess.Popen(
                argv, env={**inherited, **(environment or {})}, stdout=out, stderr=out, umask=0o077
            )
        begun.append(process)
        _await_ready(process, client, log)
        return process

    try:
        yield TritonUnderTest(start(), grpc_port, http_port, metrics_port, client, start)
    finally:
        client.close()
        for process in begun:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _with_http(argv: Sequence[str], port: int) -> list[str]:
    restricted = next(word for word in argv if word.startswith("--grpc-restricted-protocol="))
    return [
        *(word for word in argv if word != "--allow-http=false"),
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        restricted.replace("--grpc-restricted-protocol=", "--http-restricted-api="),
    ]


def _await_ready(process: subprocess.Popen[bytes], client: Any, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.is_server_ready(client_timeout=2.0):
                return
        except InferenceServerException:
            pass
        time.sleep(0.05)
    raise AssertionError(f"Triton is not ready: {log.read_text(errors='replace')[-3000:]}")
