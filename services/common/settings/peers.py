"""Settings of the front door: who may send, and how the doors beside plain DICOM are opened."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from services.common.settings.access import HostName
from services.common.settings.group import AeTitle, Group, Port

_HOST_NAME = re.compile(
    r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$"
)


def _address(text: str) -> str:
    """Refuses what is neither an address, nor a range, nor a host name.

    ``10.1.2.3/16`` is refused too: whether the range or the one address is meant is not for us
    to guess.
    """
    if "/" in text:
        ipaddress.ip_network(text)
    elif ":" in text or text.replace(".", "").isdigit():
        ipaddress.ip_address(text)
    elif not _HOST_NAME.fullmatch(text):
        raise ValueError(f"'{text}' is no address, no range and no host name")
    return text


def _fingerprint(text: str) -> str:
    """SHA-256 of a certificate as 64 lower-case hexadecimal digits, colons taken out."""
    digits = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
    return digits


Address = Annotated[str, AfterValidator(_address)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Verb = Literal["echo", "store", "stow"]
ConflictPolicy = Literal["keep_first", "take_latest", "refuse"]
Priority = Literal["high", "normal", "low"]


class Peer(Group):
    """A system that may send to the listener."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """What people call it; appears in logs, in the audit trail and in `axial status`."""
    ae_title: AeTitle | None = None
    """Its calling AE title."""
    ae_titles: tuple[AeTitle, ...] = ()
    """Its calling AE titles where it has several."""
    host: Address | None = None
    """Its address where it has one: an IP address or a host name."""
    addresses: tuple[Address, ...] = ()
    """Its addresses: IP addresses, ranges such as 10.1.0.0/16, host names. With neither host nor
    addresses, its AE title is accepted from any address; STOW-RS always needs an address."""
    verbs: tuple[Verb, ...] = ("echo", "store", "stow")
    """What it may do: C-ECHO, C-STORE, STOW-RS. Nothing else is negotiated with it."""
    tls_required: bool = False
    """Whether it is served over TLS only."""
    certificate_common_name: str | None = None
    """The common name that its certificate's subject must have. Implies tls_required."""
    certificate_sha256: Fingerprint | None = None
    """The SHA-256 fingerprint of the one certificate it is served with. Implies tls_required."""
    priority: Priority = "normal"
    """Recorded with the studies it sends; a study keeps the highest of its senders'."""
    quiet_period_s: Annotated[float, Field(ge=0)] | None = None
    """Its own quiet period. None takes the listener's."""
    conflicts: ConflictPolicy | None = None
    """What becomes of other bytes that it sends under a known SOP Instance UID. None takes the
    listener's."""
    max_associations: Annotated[int, Field(ge=1)] | None = None
    """Associations it may have open at once, and requests over HTTP. None: only the limit for all
    holds."""

    @model_validator(mode="after")
    def _can_be_recognised(self) -> Peer:
        dicom = {"echo", "store"} & set(self.verbs)
        if dicom and not self.every_ae_title:
            raise ValueError(
                f"peer '{self.name}' may {' and '.join(sorted(dicom))}: give its ae_title"
            )
        if not self.every_ae_title and not self.every_address:
            raise ValueError(f"peer '{self.name}' has neither ae_title nor addresses")
        return self

    @property
    def every_ae_title(self) -> tuple[str, ...]:
        """ae_title and ae_titles together, without the spaces that mean nothing."""
        given = (self.ae_title, *self.ae_titles)
        return tuple(dict.fromkeys(title.strip() for title in given if title is not None))

    @property
    def every_address(self) -> tuple[str, ...]:
        """The host and the addresses together."""
        return (() if self.host is None else (self.host,)) + self.addresses


class TlsSettings(Group):
    """DICOM over TLS, with client certificates (mutual authentication)."""

    port: Port | None = None
    """DICOM port over TLS, 2762 by the standard's registration. None: not opened."""
    certificate: Path | None = None
    """Our certificate with the chain that leads to its root, PEM."""
    key: Path | None = None
    """Its private key, PEM without a passphrase; readable by the listener alone."""
    trusted_certificates: Path | None = None
    """Certificates of those who may sign a peer's certificate, PEM."""
    revocation_list: Path | None = None
    """Certificate revocation lists of those, PEM. None: revocation is not checked."""
    profile: Literal["bcp195", "bcp195_non_downgrading", "bcp195_extended"] = "bcp195"
    """Security profile of PS3.15: BCP 195 RFC 8996, 9325 (B.12), non-downgrading (B.10) or extended
    (B.11). All of them begin at TLS 1.2."""
    handshake_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A connection whose handshake takes longer is closed."""

    @model_validator(mode="after")
    def _has_its_files(self) -> TlsSettings:
        files = (self.certificate, self.key, self.trusted_certificates)
        if self.port is not None and None in files:
            raise ValueError("TLS needs certificate, key and trusted_certificates")
        return self


class StowSettings(Group):
    """Store instances over HTTP (STOW-RS, PS3.18 10.5)."""

    port: Port | None = None
    """HTTP port. None: not opened."""
    host: str = "127.0.0.1"
    """Address to listen on. Loopback unless opened on purpose."""
    hosts: tuple[HostName, ...] = ()
    """Names by which the door is called, beside localhost and its own addresses. Without TLS and
    without tokens a request that calls another name is refused: a web page may have had that name
    changed to our address."""
    tls: bool = False
    """HTTPS with client certificates, with the files of listener.tls."""
    max_requests: Annotated[int, Field(ge=1)] = 8
    """Requests served at once; the next one is answered with 503 and Retry-After."""
    max_instance_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    """The largest instance; a larger one fails with A700 and its neighbours do not."""
    max_request_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 40
    """The largest request, for the whole of a study; a larger one is answered with 413."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """A request of whose body less than 64 KiB comes while it is waited for this long is given
    up."""
    tokens: tuple[SecretStr, ...] = ()
    """Bearer tokens of which a request must carry one, beside those of access.tokens that are good
    for store. None of either: address and certificate decide."""
    public_url: str | None = None
    """Root URL of the DICOMweb server that serves what was stored, for RetrieveURL; None: none."""


class AuditSettings(Group):
    """The audit trail (IHE ATNA; docs/audit.md)."""

    folder: Path | None = None
    """Where the files lie, one per service. None: `<data_dir>/audit`."""
    max_file_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    """A file that reached this size is closed and kept under a number; a new one is begun."""
    keep_files: Annotated[int, Field(ge=1)] = 100
    """Closed files kept for each service; the oldest goes first."""
    hash_uids: bool = False
    """Write hashes in the place of UIDs: for trails that are collected outside the site."""
