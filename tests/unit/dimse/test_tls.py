"""DICOM over TLS: profiles, certificates, revocation, and renewing files without a restart."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.dimse.tls import (
    PROFILES,
    TlsContexts,
    TlsError,
    TlsFiles,
    make_context,
    peer_certificate,
)
from tests.builders.certificates import Authority, Signed, shaken

# TLS 1.0 and 1.1 sign with what OpenSSL forbids at its usual level.
_OLD_SUITES = "ALL:@SECLEVEL=0"

Reported = list[TlsError | None]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs both ends' certificates."""
    return Authority(tmp_path / "authority")


def client(authority: Authority, own: Signed | None, **versions: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    context.minimum_version = versions.get("least", ssl.TLSVersion.TLSv1_2)
    context.maximum_version = versions.get("most", ssl.TLSVersion.MAXIMUM_SUPPORTED)
    if "suites" in versions:
        context.set_ciphers(versions["suites"])
    return context


def meet(door: ssl.SSLContext, caller: ssl.SSLContext) -> tuple[ssl.SSLSocket, str, str]:
    """A connection between the two: the door's end, its protocol and its cipher suite."""
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:

        def call() -> None:
            with caller.wrap_socket(theirs, server_hostname="localhost") as secured:
                secured.recv(1)  # with TLS 1.3 a refusal arrives after the client's handshake

        calling = pool.submit(call)
        try:
            secured = shaken(door, ours, 10)
        except TlsError:
            with pytest.raises(OSError):  # noqa: PT011 - reset, alert or end, as it comes
                calling.result(10)
            raise
        used = secured.cipher()
        assert used is not None
        found = secured, str(secured.version()), used[0]
        secured.sendall(b"!")
        calling.result(10)
    return found


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_caller_is_known_by_its_certificate(
    profile: str, kind: str, authority: Authority
) -> None:
    own = authority.sign("CT 1", kind=kind)
    secured, version, _ = meet(
        make_context(authority.door(profile=profile)), client(authority, own)
    )
    with secured:
        found = peer_certificate(secured)
    assert (found.common_name, found.sha256) == ("CT 1", own.sha256)
    assert version == ("TLSv1.3" if PROFILES[profile].tls_1_3 else "TLSv1.2")


@pytest.mark.parametrize(
    ("profile", "suite"),
    [(name, suite) for name, profile in PROFILES.items() for suite in profile.suites],
)
def test_every_suite_of_a_profile_can_be_used(
    profile: str, suite: str, authority: Authority
) -> None:
    files = authority.door(profile=profile)
    authority.sign("door", kind="ec" if "ECDSA" in suite else "rsa")  # the same paths
    caller = client(authority, authority.sign("CT 1"), most=ssl.TLSVersion.TLSv1_2, suites=suite)
    secured, _, used = meet(make_context(files), caller)
    secured.close()
    assert used == suite


@pytest.mark.parametrize(
    "offered",
    [
        {"suites": "AES128-SHA"},
        {"suites": "ECDHE-RSA-AES128-SHA256"},
        {
            "least": ssl.TLSVersion.TLSv1,
            "most": ssl.TLSVersion.TLSv1_1,
            "suites": "ALL:@SECLEVEL=0",
        },
    ],
    ids=["static RSA", "CBC", "TLS 1.1"],
)
# Python warns of the old versions that this test offers.
@pytest.mark.filterwarnings(r"ignore:ssl\.TLSVersion\.TLSv1(_1)? is deprecated:DeprecationWarning")
def test_what_the_profiles_forbid_is_not_negotiated(
    offered: dict[str, Any], authority: Authority
) -> None:
    offered = {"most": ssl.TLSVersion.TLSv1_2, **offered}
    caller = client(authority, authority.sign("CT 1"), **offered)
    with pytest.raises(TlsError) as refused:
        meet(make_context(authority.door()), caller)
    assert refused.value.reason in ("no_shared_cipher", "unsupported_protocol")


def test_a_caller_without_a_certificate_is_not_let_in(authority: Authority) -> None:
    with pytest.raises(TlsError) as refused:
        meet(make_context(authority.door()), client(authority, None))
    assert refused.value.reason == "peer_did_not_return_a_certificate"


def test_a_certificate_of_another_authority_is_not_let_in(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "elsewhere", "Elsewhere").sign("CT 1")
    with pytest.raises(TlsError) as refused:
        meet(make_context(authority.door()), client(authority, stranger))
    assert refused.value.reason == "certificate_verify_failed"


def test_an_expired_certificate_is_not_let_in(authority: Authority) -> None:
    with pytest.raises(TlsError, match="certificate has expired") as refused:
        meet(make_context(authority.door()), client(authority, authority.sign("CT 1", days=-1)))
    assert refused.value.reason == "certificate_verify_failed"


def test_a_certificate_is_let_in_until_it_is_revoked(authority: Authority) -> None:
    own, other = authority.sign("CT 1"), authority.sign("CT 2")
    revoked = authority.revoke(other.serial)
    contexts = TlsContexts(authority.door(revocation_list=str(revoked)))
    meet(contexts.current(), client(authority, own))[0].close()
    with pytest.raises(TlsError):
        meet(contexts.current(), client(authority, other))
    authority.revoke(own.serial, other.serial)
    touch(revoked, 1)
    with pytest.raises(TlsError):
        meet(contexts.current(), client(authority, own))


def test_renewed_files_are_in_force_for_the_next_connection(authority: Authority) -> None:
    reported: Reported = []
    files = authority.door()
    contexts = TlsContexts(files, reported.append)
    before = contexts.current()
    assert contexts.current() is before
    renewed = authority.sign("door")  # the same paths
    touch(Path(files.certificate), 1)
    assert contexts.current() is not before
    assert served(contexts.current(), authority) == renewed.sha256
    assert reported == [None]


@pytest.mark.parametrize("broken", ["certificate", "key", "trusted_certificates"])
@pytest.mark.parametrize("how", ["no PEM", "gone"])
def test_broken_files_leave_the_old_ones_in_force_and_are_reported_once(
    broken: str, how: str, authority: Authority
) -> None:
    reported: Reported = []
    files = authority.door()
    file = Path(getattr(files, broken))
    sound = file.read_bytes()
    contexts = TlsContexts(files, reported.append)
    before = contexts.current()
    if how == "gone":
        file.unlink()
    else:
        file.write_text("-----BEGIN NONSENSE-----\n")
    assert contexts.current() is before
    assert contexts.current() is before
    assert len(reported) == 1
    assert str(file) in str(reported[0]) or broken == "key"
    file.write_bytes(sound)
    assert contexts.current() is not before
    assert reported[-1] is None


def test_a_key_that_is_not_the_certificates_is_refused(authority: Authority) -> None:
    files = authority.door()
    other = authority.sign("other")
    with pytest.raises(TlsError, match="certificate and its key"):
        make_context(TlsFiles(files.certificate, str(other.key), files.trusted_certificates))


def test_a_revocation_list_adds_nobody_to_those_who_are_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    """OpenSSL trusts whatever certificate it finds in a file, under whatever name that goes."""
    stranger = Authority(tmp_path / "elsewhere", "Elsewhere")
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(authority.revoke().read_bytes() + stranger.certificate.read_bytes())
    with pytest.raises(TlsError, match="holds a certificate"):
        make_context(authority.door(revocation_list=str(mixed)))


def test_files_that_hold_nothing_of_their_kind_are_refused(authority: Authority) -> None:
    """Else nobody was let in any more, and the files looked sound."""
    revoked = str(authority.revoke())
    with pytest.raises(TlsError, match="it holds no certificate"):
        make_context(authority.door(trusted_certificates=revoked))
    with pytest.raises(TlsError, match="it holds no revocation list"):
        make_context(authority.door(revocation_list=str(authority.certificate)))


def test_a_handshake_has_one_deadline_however_slowly_it_is_fed(authority: Authority) -> None:
    context = make_context(authority.door())
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        hello = b"\x16\x03\x01\x10\x00" + bytes(1000)  # a record that never becomes whole
        for at in range(len(hello)):
            if stop.wait(0.02):
                return
            theirs.send(hello[at : at + 1])

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        with pytest.raises(TlsError) as refused:
            shaken(context, ours, 0.3)
    finally:
        stop.set()
        dripping.join()
        theirs.close()
    assert refused.value.reason == "timeout"
    assert ours.fileno() == -1


def test_plain_dicom_at_the_tls_door_is_no_handshake(authority: Authority) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"\x01\x00\x00\x00\x00\xce\x00\x01" + bytes(200))  # A-ASSOCIATE-RQ
        with pytest.raises(TlsError):
            shaken(make_context(authority.door()), ours, 10)


def test_the_sockets_timeout_outlives_the_handshake(authority: Authority) -> None:
    context = make_context(authority.door())
    ours, theirs = socket.socketpair()
    ours.settimeout(7.5)
    with ThreadPoolExecutor(1) as pool:
        caller = client(authority, authority.sign("CT 1"))
        calling = pool.submit(caller.wrap_socket, theirs, server_hostname="localhost")
        with shaken(context, ours, 10) as secured, calling.result(10):
            assert secured.gettimeout() == 7.5


def served(context: ssl.SSLContext, authority: Authority) -> str:
    """The fingerprint of the certificate that the door shows."""
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        caller = client(authority, authority.sign("CT 1"))
        calling = pool.submit(caller.wrap_socket, theirs, server_hostname="localhost")
        with shaken(context, ours, 10), calling.result(10) as secured:
            shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest()


def touch(file: Path, seconds: int) -> None:
    """Makes a file younger: two writes in one tick of the clock would look alike."""
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + seconds * 10**9))
