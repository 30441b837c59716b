"""DICOM over TLS by the profiles of PS3.15 annex B that stand on BCP 195; both sides show who
they are.

The files are looked at whenever a connection comes: renewed certificates and revocation lists are
in force from the next connection on, and files that cannot be used leave the ones before them in
force. No session is resumed, so that every connection is verified by the files of its time.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Files that changed were read anew: called with why they cannot be used, None where they can.
Report = Callable[["TlsError | None"], None]
# Of a file: when it was changed, which file it is, how long it is. None when there is none.
_Mark = tuple[int, int, int] | None

# Finite-field group ffdhe3072 (RFC 7919 A.2), for the suites with DHE: annex B wants 2048 bits or
# more, set explicitly.
_DH_PARAMETERS = """\
-----BEGIN DH PARAMETERS-----
MIIBiAKCAYEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEfz9zeNVs7ZRkDW7w09N75nAI4YbRvydbmyQd62R0mkff3
7lmMsPrBhtkcrv4TCYUTknC0EwyTvEN5RPT9RFLi103TZPLiHnH1S/9croKrnJ32
nuhtK8UiNjoNq8Uhl5sN6todv5pC1cRITgq80Gv6U93vPBsg7j/VnXwl5B0rZsYu
N///////////AgEC
-----END DH PARAMETERS-----
"""


class TlsError(Exception):
    """A connection did not become a TLS connection, or the files cannot be used.

    Attributes:
        reason: in a word, for counters: OpenSSL's reason in lower case, ``timeout``, ``closed``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Profile:
    """A security profile: its place in PS3.15, and what it allows.

    Attributes:
        suites: cipher suites of TLS 1.2 by OpenSSL's names, preferred ones first.
        tls_1_3: whether TLS 1.3 is spoken too, with its own suites.
    """

    name: str
    section: str
    suites: tuple[str, ...]
    tls_1_3: bool


_ECDHE = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_DHE = ("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")

# RFC 8996 forbids what is older than TLS 1.2 in all of them. The extended profile names its
# suites one by one and has none of TLS 1.3's.
PROFILES: Mapping[str, Profile] = {
    "bcp195": Profile("BCP 195 RFC 8996, 9325", "B.12", _ECDHE, tls_1_3=True),
    "bcp195_non_downgrading": Profile(
        "Non-downgrading BCP 195", "B.10", _ECDHE + _DHE, tls_1_3=True
    ),
    "bcp195_extended": Profile("Extended BCP 195", "B.11", _ECDHE + _DHE, tls_1_3=False),
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a TLS door is made of; paths of PEM files.

    Attributes:
        certificate: ours, with its chain.
        trusted_certificates: of those who may sign a peer's.
        revocation_list: lists of all of those; None leaves revocation unchecked.
        profile: a key of `PROFILES`.
    """

    certificate: str
    key: str
    trusted_certificates: str
    revocation_list: str | None = None
    profile: str = "bcp195"

    def as_json(self) -> dict[str, Any]:
        """The form in which the files' paths go to the receiving processes."""
        return asdict(self)

    @property
    def paths(self) -> tuple[str, ...]:
        """All of the files."""
        named = (self.certificate, self.key, self.trusted_certificates, self.revocation_list)
        return tuple(path for path in named if path is not None)


@dataclass(frozen=True, slots=True)
class ClientTlsFiles:
    """What calls another system over TLS; paths of PEM files.

    Attributes:
        trusted_certificates: of those who may sign the other system's.
        certificate: ours, with its chain; None where the other system asks for none.
        key: the certificate's private key; None when the key stands in the certificate's file.
        revocation_list: of all trusted certificates; None leaves revocation unchecked.
        profile: a key of `PROFILES`.
        check_host_name: whether the other system's certificate must name the host that is called.
    """

    trusted_certificates: str
    certificate: str | None = None
    key: str | None = None
    revocation_list: str | None = None
    profile: str = "bcp195"
    check_host_name: bool = True


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The verified certificate at the other end of a TLS connection.

    Attributes:
        common_name: of the subject; None when there is none.
        sha256: the fingerprint, 64 lower-case hexadecimal digits.
    """

    common_name: str | None
    sha256: str


class TlsContexts:
    """TLS contexts for accepting: the present one is made anew when a file has changed.

    May be used from many threads.

    Args:
        report: called when files that changed were read.

    Raises:
        TlsError: the files cannot be used. Later, that is reported and the old files stay in use.
    """

    def __init__(self, files: TlsFiles, report: Report = lambda _problem: None) -> None:
        self._files = files
        self._report = report
        self._lock = threading.Lock()
        self._marks = self._look()
        self._context = make_context(files)

    def current(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        with self._lock:
            # The marks come first: what changes while the files are read is seen next time.
            marks = self._look()
            if marks != self._marks:
                self._marks = marks
                self._renew()
            return self._context

    def _look(self) -> tuple[_Mark, ...]:
        return tuple(_mark(path) for path in self._files.paths)

    def _renew(self) -> None:
        try:
            self._context = make_context(self._files)
        except TlsError as error:
            self._report(error)
        else:
            self._report(None)


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """A server's context by the profile, that wants a certificate of the client.

    Raises:
        TlsError: a file is missing, is no PEM, or the key is not the certificate's.
    """
    context = _by_profile(ssl.PROTOCOL_TLS_SERVER, files.profile)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # TLS 1.3
    context.verify_mode = ssl.CERT_REQUIRED
    if any(suite in PROFILES[files.profile].suites for suite in _DHE):
        _load_dh_parameters(context)
    _load_certificate(context, files.certificate, files.key)
    _load_trusted(context, files.trusted_certificates, files.revocation_list)
    return context


def make_client_context(files: ClientTlsFiles) -> ssl.SSLContext:
    """A client's context by the profile, that wants a certificate of the server.

    Raises:
        TlsError: a file is missing, is no PEM, or the key is not the certificate's.
    """
    context = _by_profile(ssl.PROTOCOL_TLS_CLIENT, files.profile)
    context.check_hostname = files.check_host_name
    if files.certificate is not None:
        _load_certificate(context, files.certificate, files.key)
    _load_trusted(context, files.trusted_certificates, files.revocation_list)
    return context


def wrap_client(context: ssl.SSLContext, connection: socket.socket, host: str) -> ssl.SSLSocket:
    """What owns a connection that we asked for from now on; `shake_hands` is the next step.

    Raises:
        TlsError: the other side is gone; the connection is closed.
    """
    name = host if context.check_hostname else None
    try:
        return context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        connection.close()
        raise _no_connection(error) from error


def wrap(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    """What owns an accepted connection from now on; `shake_hands` is the next step.

    Raises:
        TlsError: the other side is gone; the connection is closed.
    """
    try:
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        connection.close()
        raise _no_connection(error) from error


def shake_hands(secured: ssl.SSLSocket, timeout_s: float) -> None:
    """Does the handshake on a connection.

    The deadline is for the whole handshake: a peer that sends a byte now and then gains nothing.

    Raises:
        TlsError: no handshake, or none in time; the connection is closed.
    """
    kept_timeout = secured.gettimeout()
    try:
        secured.setblocking(False)
        _shake_hands(secured, time.monotonic() + timeout_s)
        secured.settimeout(kept_timeout)
    except (OSError, ValueError) as error:  # ValueError: the other side was gone already
        secured.close()
        raise _no_connection(error) from error


def peer_certificate(secured: ssl.SSLSocket | ssl.SSLObject) -> PeerCertificate:
    """Who is at the other end, verified."""
    encoded = secured.getpeercert(binary_form=True)
    assert encoded is not None, "a context of ours lets nobody in without a certificate"
    return read_certificate(encoded, secured.getpeercert() or {})


def read_certificate(encoded: bytes, parsed: Mapping[str, Any]) -> PeerCertificate:
    """The certificate's names from its DER form and from what `ssl` makes of it."""
    names = [
        value
        for attributes in parsed.get("subject", ())
        for key, value in attributes
        if key == "commonName"
    ]
    # The last one is the most specific (X.501 8.6).
    return PeerCertificate(names[-1] if names else None, hashlib.sha256(encoded).hexdigest())


def _by_profile(protocol: int, name: str) -> ssl.SSLContext:
    profile = PROFILES[name]
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not profile.tls_1_3:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(profile.suites))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        # An empty passphrase: a locked key is an error, not a question at a terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise _unusable("The certificate and its key", certificate, error) from error


def _load_trusted(context: ssl.SSLContext, trusted: str, revoked: str | None) -> None:
    try:
        context.load_verify_locations(trusted)
    except OSError as error:
        raise _unusable("The trusted certificates", trusted, error) from error
    held = context.cert_store_stats()
    if not held["x509"]:
        raise _holds("The trusted certificates", trusted, "no certificate")
    if revoked is None:
        return
    try:
        context.load_verify_locations(revoked)
    except OSError as error:
        raise _unusable("The revocation list", revoked, error) from error
    # OpenSSL takes whatever a file holds: certificates among the lists would be trusted.
    added = context.cert_store_stats()
    if added["x509"] > held["x509"]:
        raise _holds("The revocation list", revoked, "a certificate")
    if added["crl"] == held["crl"]:
        raise _holds("The revocation list", revoked, "no revocation list")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_dh_parameters(context: ssl.SSLContext) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl takes them from a file only
        file.write(_DH_PARAMETERS)
        file.flush()
        context.load_dh_params(file.name)


def _shake_hands(secured: ssl.SSLSocket, deadline: float) -> None:
    poll = select.poll()  # select.select knows no descriptor above 1023
    while True:
        try:
            secured.do_handshake()
            return
        except ssl.SSLWantReadError:
            wanted = select.POLLIN
        except ssl.SSLWantWriteError:
            wanted = select.POLLOUT
        left_s = deadline - time.monotonic()
        poll.register(secured, wanted)
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise TimeoutError("The handshake took too long.")


def _no_connection(error: OSError | ValueError) -> TlsError:
    if isinstance(error, TimeoutError):
        return TlsError(str(error), "timeout")
    reason = getattr(error, "reason", None)  # OpenSSL's, not text of the peer's
    if isinstance(error, ssl.SSLError) and isinstance(reason, str):
        name = reason.lower()
        problem = f"The handshake failed: {name.replace('_', ' ')}"
        if isinstance(error, ssl.SSLCertVerificationError):
            # OpenSSL's words too, with at most the name that we called: expired, revoked, whose.
            problem += f" ({error.verify_message.rstrip('.')})"
        return TlsError(f"{problem}.", name)
    return TlsError("The connection was closed during the handshake.", "closed")


def _unusable(what: str, path: str, error: OSError) -> TlsError:
    why = getattr(error, "reason", None) or error.strerror or "no PEM"
    return TlsError(f"{what} in {path} cannot be used: {why}.", "files")


def _holds(what: str, path: str, content: str) -> TlsError:
    return TlsError(f"{what} in {path} cannot be used: it holds {content}.", "files")


def _mark(path: str) -> _Mark:
    try:
        found = os.stat(path)  # noqa: PTH116 - paths are text in a receiver
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
