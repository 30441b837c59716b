"""A whole stack as others on the machine meet it: what listens, and what they get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from axial.v1 import intake_pb2, intake_pb2_grpc, reporting_pb2, reporting_pb2_grpc

from services.common.rpc import open_channel
from services.common.trust import Credentials
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import StackUnderTest, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[StackUnderTest]:
    with running_stack(tmp_path_factory.mktemp("closed")) as running:
        yield running


def _listening(stack: StackUnderTest) -> dict[int, str]:
    """Port -> address, of every process of the stack."""
    supervisor = psutil.Process(stack.pid("listener")).parent()
    assert supervisor is not None
    found: dict[int, str] = {}
    for process in [supervisor, *supervisor.children(recursive=True)]:
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = connection.laddr.ip
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_every_port_is_known_and_on_loopback(stack: StackUnderTest) -> None:
    settings = stack.settings
    known = {
        settings.listener.port,
        settings.listener.health_port,
        settings.orchestrator.health_port,
        settings.reporting.health_port,
        settings.gateway.port,
        settings.triton.metrics_port,
        settings.reporting.destinations[0].port,  # the stand-in PACS
        *map(_port, (settings.listener.intake_address, settings.orchestrator.address)),
        *map(_port, (settings.reporting.address, settings.triton.grpc_address)),
    }
    listening = _listening(stack)
    assert set(listening) <= known
    assert set(listening.values()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.parametrize("service", ["intake", "orchestrator", "reporting", "triton"])
def test_no_call_is_answered_without_a_certificate(stack: StackUnderTest, service: str) -> None:
    settings = stack.settings
    address = {
        "intake": settings.listener.intake_address,
        "orchestrator": settings.orchestrator.address,
        "reporting": settings.reporting.address,
        "triton": settings.triton.grpc_address,
    }[service]
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # pyright: ignore[reportAttributeAccessIssue]


def test_tritons_own_certificate_lets_nobody_speak_to_the_services(stack: StackUnderTest) -> None:
    """What runs inside Triton has its files at hand: they are good for nothing here."""
    own = Credentials("triton", stack.settings.certificates_dir / "triton")
    with open_channel(stack.settings.listener.intake_address, own, "listener") as channel:
        intake = intake_pb2_grpc.IntakeStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            intake.CompleteStudy(intake_pb2.CompleteStudyRequest(study_uid="1.2.3"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED  # pyright: ignore[reportAttributeAccessIssue]
    with open_channel(stack.settings.reporting.address, own, "reporting") as channel:
        reporting = reporting_pb2_grpc.ReportingStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            reporting.Resend(reporting_pb2.ResendRequest(destination="pacs"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED  # pyright: ignore[reportAttributeAccessIssue]


def test_a_web_page_reads_and_changes_nothing(stack: StackUnderTest) -> None:
    base = f"http://127.0.0.1:{stack.settings.gateway.port}"
    rebound = httpx.get(f"{base}/api/v1/studies", headers={"Host": "evil.example"})
    assert rebound.status_code == 421
    posted = httpx.post(
        f"{base}/api/v1/studies/1.2.3/complete", headers={"Origin": "http://evil.example"}
    )
    assert posted.status_code == 403


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_reads_no_patient_data(stack: StackUnderTest, tmp_path: Path) -> None:
    """Neither from the data directory nor from the memory that goes to Triton."""
    write_head(tmp_path / "study", "closed")
    stack.send_until_accepted(tmp_path / "study")
    stack.wait_until_done(study_uid("closed"))
    program = """
import json, os, sys
os.setgid(65534); os.setuid(65534)
readable = []
for root in sys.argv[1:]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            try:
                open(path, "rb").close()
                readable.append(path)
            except OSError:
                pass
print(json.dumps(readable))
"""
    # pytest's own folders would keep others out by themselves.
    for folder in (stack.folder, *stack.folder.parents[:2]):
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", program, str(stack.settings.data_dir), "/dev/shm"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shared = _regions_of_models(stack)
    assert shared
    readable = set(json.loads(done.stdout))
    assert {path for path in readable if path.startswith(str(stack.settings.data_dir))} == set()
    assert {path for path in readable if Path(path).name in shared} == set()


def _regions_of_models(stack: StackUnderTest) -> set[str]:
    """The regions that this stack's Triton shares with its models' processes."""
    models = psutil.Process(stack.pid("triton")).children(recursive=True)
    return {
        word
        for model in models
        for word in model.cmdline()
        if word.startswith("triton_python_backend_shm_region")
    }
