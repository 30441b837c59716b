"""How the services know each other: an authority of their own, and a certificate for each.

Every call between the services, and every call to Triton, is mutual TLS. A certificate names one
component, and what a component may ask is a list (`services.common.callers`). On one machine the
authority is made by `axial up` at each start, or by the first service that finds none; its key is
kept nowhere, so that nobody can sign another certificate. Elsewhere Secrets hold the files.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.common.errors import AxialError
from services.common.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

COMPONENTS: Sequence[str] = ("listener", "orchestrator", "reporting", "gateway", "triton")
# A component's name in its certificate (subjectAltName, dNSName). No name server knows the domain.
DOMAIN = "axial"
# A stack on one machine makes new ones at every start; none runs for so long.
VALID_FOR = dt.timedelta(days=5 * 365)
# Clocks of machines that share a folder may differ.
_BEGUN_EARLIER = dt.timedelta(hours=1)


class TrustError(AxialError):
    """A certificate or key is missing or cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files of one component: its certificate, its key, and the authority it believes.

    Attributes:
        component: listener, orchestrator, reporting, gateway or triton.
        folder: holds ``tls.crt``, ``tls.key`` and ``ca.crt``, PEM, as Kubernetes' TLS Secrets do.
    """

    component: str
    folder: Path

    @property
    def certificate(self) -> Path:
        """The component's certificate."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / "tls.key"

    @property
    def authority(self) -> Path:
        """The certificate of who may sign the others'."""
        return self.folder / "ca.crt"

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Key, certificate and authority, PEM.

        Raises:
            TrustError: one of the files is missing or cannot be read.
        """
        try:
            return (
                self.key.read_bytes(),
                self.certificate.read_bytes(),
                self.authority.read_bytes(),
            )
        except OSError as error:
            raise TrustError(
                f"The {self.component}'s certificate: {error.filename}: {error.strerror}. "
                "`axial certificates FOLDER` makes such files; rpc.certificates names the folder."
            ) from error


def host_name(component: str) -> str:
    """The name by which a component is known in its certificate."""
    return f"{component}.{DOMAIN}"


def credentials_of(settings: Settings, component: str) -> Credentials:
    """A component's files; made where nobody made them and no folder was configured.

    Raises:
        TrustError: a configured folder lacks them, or the folder cannot be written.
    """
    folder = settings.certificates_dir
    credentials = Credentials(component, folder / component)
    if settings.rpc.certificates is None and not credentials.certificate.exists():
        _make_once(folder)
    credentials.read()
    return credentials


def renew_certificates(settings: Settings) -> None:
    """Makes a new authority and new certificates; those of an earlier start are worth nothing.

    Does nothing where a folder is configured: whoever filled the folder renews the files.

    Raises:
        TrustError: the folder cannot be written.
    """
    if settings.rpc.certificates is None:
        with _locked(settings.certificates_dir):
            make_certificates(settings.certificates_dir)


def make_certificates(folder: Path) -> None:
    """Makes an authority and a certificate for every component in ``folder/<component>/``.

    The folder is replaced as a whole. Only its owner may read it.

    Raises:
        TrustError: the folder cannot be written.
    """
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        _write_all(fresh)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            fresh.rename(folder)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
    except OSError as error:
        raise TrustError(
            f"Certificates cannot be written to {folder}: {error.strerror or error}."
        ) from error


def _make_once(folder: Path) -> None:
    with _locked(folder):
        if not folder.exists():
            make_certificates(folder)


class _locked:  # noqa: N801 - used as a function
    """One process at a time makes certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder.with_name(f"{folder.name}.lock")

    def __enter__(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TrustError(f"{self._file}: {error.strerror}.") from error
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)


def _write_all(folder: Path) -> None:
    # Only who makes certificates needs the library; it would cost every service some megabytes.
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key)
    for component in COMPONENTS:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(component, key, authority, authority_key)
        own = folder / component
        own.mkdir(mode=0o700)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(own / "tls.key", private)
        _write(own / "tls.crt", certificate.public_bytes(Encoding.PEM))
        _write(own / "ca.crt", authority.public_bytes(Encoding.PEM))


def _write(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)


def _authority(key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Axial services")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEGUN_EARLIER)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    component: str,
    key: EllipticCurvePrivateKey,
    authority: Certificate,
    authority_key: EllipticCurvePrivateKey,
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, component)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host_name(component))]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
