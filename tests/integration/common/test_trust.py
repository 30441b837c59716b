"""Calls between the services: who is let in, who is not, and that overload says so."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from axial.v1 import reporting_pb2, reporting_pb2_grpc

from services.common.callers import CALLERS, may_call
from services.common.rpc import open_channel, serve_rpc
from services.common.settings import RpcSettings, Settings
from services.common.trust import (
    COMPONENTS,
    Credentials,
    TrustError,
    credentials_of,
    make_certificates,
    renew_certificates,
)

CHECKOUT = Path(__file__).resolve().parents[3]
RELEASE = reporting_pb2.ReleaseResultsRequest(job_uid="1.2.3")
RESEND = reporting_pb2.ResendRequest(destination="pacs")


class Answering(reporting_pb2_grpc.ReportingServicer):
    """Answers what it is asked; a release waits until it is let go."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.free = threading.Event()
        self.free.set()

    def ReleaseResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.ReleaseResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.ReleaseResultsResponse:
        self.served.append(request.job_uid)
        assert self.free.wait(30)
        return reporting_pb2.ReleaseResultsResponse(deliveries=1)

    def MakeResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.MakeResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.MakeResultsResponse:
        return reporting_pb2.MakeResultsResponse()

    def WithdrawResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.WithdrawResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.WithdrawResultsResponse:
        return reporting_pb2.WithdrawResultsResponse()

    def Resend(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.ResendRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.ResendResponse:
        self.served.append(request.destination)
        return reporting_pb2.ResendResponse(deliveries=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust") / "certificates"
    make_certificates(made)
    return made


def _of(folder: Path, component: str) -> Credentials:
    return Credentials(component, folder / component)


@contextmanager
def _served(folder: Path, as_component: str = "reporting") -> Generator[tuple[Answering, str]]:
    servicer = Answering()

    def register(server: grpc.Server) -> None:
        reporting_pb2_grpc.add_ReportingServicer_to_server(servicer, server)

    with serve_rpc(
        "127.0.0.1:0", register, _of(folder, as_component), workers=1, grace_s=0.2
    ) as port:
        try:
            yield servicer, f"127.0.0.1:{port}"
        finally:
            servicer.free.set()


def calls_with(server: Credentials, caller: Credentials) -> bool:
    """Whether a call goes through between two components with these files."""
    with (
        _served(server.folder.parent) as (servicer, address),
        open_channel(address, caller, server.component) as channel,
    ):
        reporting_pb2_grpc.ReportingStub(channel).ReleaseResults(RELEASE, timeout=10)
    return servicer.served == [RELEASE.job_uid]


def _code(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    code = refused.value.code()  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(code, grpc.StatusCode)
    return code


def test_every_method_of_the_contracts_has_its_callers() -> None:
    from axial.v1 import intake_pb2, orchestrator_pb2

    methods = {
        f"/{service.full_name}/{method.name}"
        for module in (intake_pb2, orchestrator_pb2, reporting_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(CALLERS)
    assert all(callers <= set(COMPONENTS) for callers in CALLERS.values())


def test_tritons_certificate_is_good_for_no_call() -> None:
    assert not any("triton" in callers for callers in CALLERS.values())
    assert not may_call("gateway", "/axial.v1.Reporting/MethodToCome")
    assert not may_call(None, "/axial.v1.Reporting/Resend")


def test_a_component_calls_what_is_on_its_list(folder: Path) -> None:
    with _served(folder) as (servicer, address):
        with open_channel(address, _of(folder, "orchestrator"), "reporting") as channel:
            stub = reporting_pb2_grpc.ReportingStub(channel)
            assert stub.ReleaseResults(RELEASE, timeout=10).deliveries == 1
            refused = _code(lambda: stub.Resend(RESEND, timeout=10))
            assert refused is grpc.StatusCode.PERMISSION_DENIED
        with open_channel(address, _of(folder, "gateway"), "reporting") as channel:
            stub = reporting_pb2_grpc.ReportingStub(channel)
            assert stub.Resend(RESEND, timeout=10).deliveries == 1
    assert servicer.served == ["1.2.3", "pacs"]


@pytest.mark.parametrize("component", ["triton", "listener", "reporting"])
def test_another_component_is_refused(folder: Path, component: str) -> None:
    with (
        _served(folder) as (servicer, address),
        open_channel(address, _of(folder, component), "reporting") as channel,
    ):
        stub = reporting_pb2_grpc.ReportingStub(channel)
        for call in (
            lambda: stub.ReleaseResults(RELEASE, timeout=10),
            lambda: stub.Resend(RESEND, timeout=10),
        ):
            assert _code(call) is grpc.StatusCode.PERMISSION_DENIED
    assert servicer.served == []


def test_a_stranger_gets_no_connection(folder: Path, tmp_path: Path) -> None:
    """Without TLS, without a certificate, with one of an authority of their own."""
    make_certificates(tmp_path / "theirs")
    theirs = _of(tmp_path / "theirs", "orchestrator")
    key, certificate, _ = theirs.read()
    _, _, authority = _of(folder, "reporting").read()
    name = (("grpc.ssl_target_name_override", "reporting.axial"),)
    with _served(folder) as (servicer, address):
        strangers = [
            grpc.insecure_channel(address),
            grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), name),
            grpc.secure_channel(
                address, grpc.ssl_channel_credentials(authority, key, certificate), name
            ),
            open_channel(address, theirs, "reporting"),
        ]
        for channel in strangers:
            with channel:
                stub = reporting_pb2_grpc.ReportingStub(channel)
                for call in (
                    lambda stub=stub: stub.ReleaseResults(RELEASE, timeout=5),
                    lambda stub=stub: stub.Resend(RESEND, timeout=5),
                ):
                    assert _code(call) is grpc.StatusCode.UNAVAILABLE
    assert servicer.served == []


def test_a_server_that_is_another_component_is_not_believed(folder: Path) -> None:
    """Who holds Triton's files cannot take what is meant for reporting."""
    with (
        _served(folder, as_component="triton") as (servicer, address),
        open_channel(address, _of(folder, "orchestrator"), "reporting") as channel,
    ):
        stub = reporting_pb2_grpc.ReportingStub(channel)
        call = _code(lambda: stub.ReleaseResults(RELEASE, timeout=5))
        assert call is grpc.StatusCode.UNAVAILABLE
    assert servicer.served == []


def test_more_calls_than_are_accepted_are_refused_as_overload(folder: Path) -> None:
    with (
        _served(folder) as (servicer, address),
        open_channel(address, _of(folder, "orchestrator"), "reporting") as channel,
    ):
        servicer.free.clear()
        stub = reporting_pb2_grpc.ReportingStub(channel)
        calls = [stub.ReleaseResults.future(RELEASE, timeout=60) for _ in range(12)]
        # Four more than are taken: those answer at once, the others wait for their turn.
        refused: list[grpc.StatusCode] = []
        done = threading.Condition()

        def note(call: grpc.Future[reporting_pb2.ReleaseResultsResponse]) -> None:
            with done:
                refused.append(call.code())  # pyright: ignore[reportAttributeAccessIssue]
                done.notify_all()

        for call in calls:
            call.add_done_callback(note)
        with done:
            assert done.wait_for(lambda: len(refused) >= 4, 20)
        assert refused == 4 * [grpc.StatusCode.RESOURCE_EXHAUSTED]
        servicer.free.set()
        with done:
            assert done.wait_for(lambda: len(refused) == 12, 20)
    assert refused.count(grpc.StatusCode.OK) == 8


def test_only_the_owner_may_read_the_files(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for component in COMPONENTS:
        assert stat.S_IMODE((folder / component).stat().st_mode) == 0o700
        for file in (folder / component).iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_no_file_holds_the_authoritys_key(folder: Path) -> None:
    keys = [
        file for file in folder.rglob("*") if file.is_file() and b"PRIVATE" in file.read_bytes()
    ]
    assert sorted(key.parent.name for key in keys) == sorted(COMPONENTS)
    assert {key.name for key in keys} == {"tls.key"}


def test_services_that_start_together_have_one_authority(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from services.common.settings import Settings\n"
        "from services.common.trust import credentials_of\n"
        "s = Settings(data_dir=Path(sys.argv[1]))\n"
        "print(credentials_of(s, sys.argv[2]).authority.read_text())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), component],
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            text=True,
        )
        for component in COMPONENTS
    ]
    authorities = {process.communicate(timeout=60)[0] for process in started}
    assert len(authorities) == 1
    assert "BEGIN CERTIFICATE" in authorities.pop()


def test_certificates_of_an_earlier_start_are_worth_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    old = credentials_of(settings, "orchestrator")
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in (old.key, old.certificate, old.authority):
        (kept / file.name).write_bytes(file.read_bytes())
    renew_certificates(settings)
    with (
        _served(settings.certificates_dir) as (servicer, address),
        open_channel(address, Credentials("orchestrator", kept), "reporting") as channel,
        open_channel(address, credentials_of(settings, "orchestrator"), "reporting") as fresh,
    ):
        stub = reporting_pb2_grpc.ReportingStub(channel)
        call = _code(lambda: stub.ReleaseResults(RELEASE, timeout=5))
        assert call is grpc.StatusCode.UNAVAILABLE
        assert reporting_pb2_grpc.ReportingStub(fresh).ReleaseResults(RELEASE, timeout=10)
    assert servicer.served == ["1.2.3"]


def test_a_configured_folder_without_files_is_an_error_that_names_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, rpc=RpcSettings(certificates=tmp_path / "mounted"))
    with pytest.raises(TrustError, match=r"mounted/reporting/tls\.key.*axial certificates"):
        credentials_of(settings, "reporting")
    assert not (tmp_path / "mounted").exists()
