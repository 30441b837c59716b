"""Certificates for tests: an authority, and what it signs, as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.dimse.tls import TlsFiles, shake_hands, wrap

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate with its key, in files."""

    certificate: Path
    key: Path
    sha256: str
    serial: int


class Authority:
    """Signs certificates; its own is ``ca.pem`` in its folder."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        own = (
            _begun(self._name, self._name, self._key.public_key(), _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "ca.pem"
        self.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def sign(
        self, common_name: str, *, kind: str = "rsa", days: float = 1, file: str | None = None
    ) -> Signed:
        """A certificate for either end of a connection to 127.0.0.1; negative days: expired."""
        key = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ec"
            else rsa.generate_private_key(65537, 2048)
        )
        addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = (
            _begun(_name(common_name), self._name, key.public_key(), _DAY * days)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = file or common_name
        files = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        digest = signed.fingerprint(hashes.SHA256()).hex()
        return Signed(*files, digest, signed.serial_number)

    def revoke(self, *serials: int) -> Path:
        """Writes the authority's revocation list, ``crl.pem``."""
        now = dt.datetime.now(dt.UTC)
        listed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - _DAY)
            .next_update(now + _DAY)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            listed = listed.add_revoked_certificate(entry.revocation_date(now - _DAY).build())
        file = self._folder / "crl.pem"
        signed = listed.sign(self._key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return file

    def door(self, **changes: str) -> TlsFiles:
        """The files of a TLS door with a fresh certificate."""
        own = self.sign("door")
        given = {
            "certificate": str(own.certificate),
            "key": str(own.key),
            "trusted_certificates": str(self.certificate),
        }
        return TlsFiles(**{**given, **changes})


def _name(common_name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Hospital")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    valid_for: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + valid_for)
    )


def shaken(context: ssl.SSLContext, connection: socket.socket, timeout_s: float) -> ssl.SSLSocket:
    """A connection of the door after its handshake."""
    secured = wrap(context, connection)
    shake_hands(secured, timeout_s)
    return secured
