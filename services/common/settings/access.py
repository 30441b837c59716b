"""Settings of who may use what is spoken over HTTP."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, SecretStr, StringConstraints

from services.common.settings.group import HIDDEN, Group, Port

# read: studies, fates, results' states; act: complete, expect, retry, resend, resolve; store: STOW.
TokenAction = Literal["read", "act", "store"]
# Who puts the token itself here is told so without it.
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), HIDDEN]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=255, to_lower=True)]
# 256 bits: nobody finds one by trying, so that a plain hash of it tells nothing.
_TOKEN_BYTES = 32


class AccessToken(Group):
    """A bearer token, known by its hash. `axial token` makes one."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Whose it is; appears in the audit trail."""
    sha256: Sha256
    """SHA-256 of the token, 64 lower-case hexadecimal digits. The token itself is kept nowhere."""
    actions: Annotated[tuple[TokenAction, ...], Field(min_length=1)]
    """What it is good for: read (studies and what became of them), act (complete, expect, retry,
    resend, resolve), store (STOW-RS)."""
    expires: AwareDatetime
    """From when on it is good for nothing; RFC 3339 with an offset."""


class GatewaySettings(Group):
    """REST API and health of the whole."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback every request but health and metrics needs a token
    (access.tokens)."""
    port: Port = 8042
    """HTTP port."""
    hosts: tuple[HostName, ...] = ()
    """Names by which it is called, beside localhost and its own addresses. A request that calls
    another name is refused: a web page may have had that name changed to our address."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may change something here, e.g. `https://viewer.example`."""
    client_token: SecretStr | None = None
    """The token that the `axial` command shows to the gateway."""

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine reaches the gateway."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is loopback's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_token() -> tuple[str, str]:
    """A new bearer token and its SHA-256."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, hashlib.sha256(token.encode()).hexdigest()


def bearer_of(authorization: str) -> str | None:
    """The token of an Authorization header (RFC 6750 2.1); None when the header has none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() or None if scheme.lower() == "bearer" else None


def find_token(given: str, tokens: Iterable[AccessToken]) -> AccessToken | None:
    """The token of that text, expired or not; known by the text's hash.

    The hashes of all tokens are compared, in a time that reveals nothing about any of them.
    """
    digest = hashlib.sha256(given.encode()).hexdigest()
    same = [token for token in tokens if hmac.compare_digest(token.sha256, digest)]
    return same[0] if same else None


def has_expired(token: AccessToken, now: dt.datetime) -> bool:
    """Whether a token's time is over."""
    return now >= token.expires
