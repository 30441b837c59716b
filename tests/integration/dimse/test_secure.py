"""Calling over TLS: who is called shows who it is, and so do we where that is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.dimse.errors import AssociationError, NotReached
from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association
from services.dimse.sending import send_instances
from services.dimse.tls import (
    PROFILES,
    ClientTlsFiles,
    TlsError,
    TlsFiles,
    make_client_context,
    make_context,
)
from tests.builders.acceptor import Caller
from tests.builders.certificates import Authority, shaken
from tests.builders.series import sound_series

IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs both ends' certificates."""
    return Authority(tmp_path / "authority")


def files_of(authority: Authority, **changes: object) -> ClientTlsFiles:
    own = authority.sign("AXIAL")
    files = ClientTlsFiles(str(authority.certificate), str(own.certificate), str(own.key))
    return replace(files, **changes)  # pyright: ignore[reportArgumentType]


def call(port: int, files: ClientTlsFiles, host: str = "127.0.0.1") -> Call:
    context = make_client_context(files)
    return Call(host, port, "PACS", "AXIAL", context, connect_timeout_s=3.0, answer_timeout_s=5.0)


@contextmanager
def secure_acceptor(files: TlsFiles, host: str = "127.0.0.1") -> Generator[tuple[int, list[bytes]]]:
    """Takes connections over TLS and stores all that comes; yields its port and data sets."""
    context = make_context(files)
    server = socket.create_server((host, 0))
    stored: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with shaken(context, connection, 5.0) as secured:
                    secured.settimeout(5.0)
                    caller = Caller(secured)
                    caller.accept(65536)
                    stored.extend(caller.store_all())
            except (TlsError, OSError, AssertionError):
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], stored
    finally:
        server.shutdown(socket.SHUT_RDWR)  # what waits for a connection ends
        server.close()
        thread.join(10)


def echo(called: Call) -> int:
    with Association(called, [ProposedContext(1, VERIFICATION, (IMPLICIT,))]) as association:
        return association.echo()


@pytest.mark.parametrize("profile", PROFILES)
def test_files_arrive_by_each_profile(profile: str, authority: Authority, tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom")
    instances = find_instances(tmp_path / "dicom")
    with secure_acceptor(authority.door(profile=profile)) as (port, stored):
        report = send_instances(instances, call(port, files_of(authority, profile=profile)))
    assert (report.sent, report.failed) == (len(instances), ())
    assert stored == [i.file.read_bytes()[i.data_set_at :] for i in instances]


def test_who_is_signed_by_a_stranger_is_not_spoken_to(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "Stranger")
    with (
        secure_acceptor(stranger.door()) as (port, _),
        pytest.raises(
            NotReached,
            match=r"over TLS: The handshake failed: certificate verify failed \(.*self-signed",
        ),
    ):
        echo(call(port, files_of(authority)))


def test_whose_certificate_names_another_host_is_not_spoken_to_unless_that_is_allowed(
    authority: Authority,
) -> None:
    # The certificate names 127.0.0.1, not 127.0.0.2: both are this machine.
    other = "127.0.0.2"
    with secure_acceptor(authority.door(), other) as (port, _):
        with pytest.raises(NotReached, match=r"certificate verify failed \(.*mismatch"):
            echo(call(port, files_of(authority), other))
        assert echo(call(port, files_of(authority, check_host_name=False), other)) == 0x0000


def test_a_revoked_certificate_is_not_spoken_to(authority: Authority) -> None:
    door = authority.sign("door")
    files = TlsFiles(str(door.certificate), str(door.key), str(authority.certificate))
    with secure_acceptor(files) as (port, _):
        sound = files_of(authority, revocation_list=str(authority.revoke()))
        assert echo(call(port, sound)) == 0x0000
        revoked = files_of(authority, revocation_list=str(authority.revoke(door.serial)))
        with pytest.raises(NotReached, match=r"certificate verify failed \(certificate revoked"):
            echo(call(port, revoked))


def test_without_a_certificate_of_ours_a_receiver_that_wants_one_ends_it(
    authority: Authority,
) -> None:
    files = ClientTlsFiles(str(authority.certificate))
    with secure_acceptor(authority.door()) as (port, _), pytest.raises(AssociationError):
        echo(call(port, files))


def test_who_speaks_no_tls_is_given_up_in_time(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        files = files_of(authority)
        with pytest.raises(NotReached, match="took too long"):
            echo(replace(call(server.getsockname()[1], files), connect_timeout_s=0.3))


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"missing\.pem cannot be used"):
        make_client_context(ClientTlsFiles(str(tmp_path / "missing.pem")))
