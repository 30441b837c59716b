"""Whether a request over HTTP is one that a page of another site had a browser make.

*Host*: a browser that was told that some name is now our address (DNS rebinding) still calls that
name. *Origin*: a browser says whose page it was that asks for a change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

_OWN_NAMES = frozenset({"localhost", "localhost.localdomain"})
# What a browser says of a request that another site's page made (Fetch Metadata).
_OF_ANOTHER_SITE = frozenset({"cross-site", "same-site"})


def is_own_host(host: str, server: str | None, names: Collection[str]) -> bool:
    """Whether a request calls us by a name or an address of ours.

    Args:
        host: the Host header (RFC 9110 7.2).
        server: the address at which the request arrived; None where that is not known.
        names: our configured names, in lower case.
    """
    name = _without_port(host)
    if name in _OWN_NAMES or name in names:
        return True
    called = _address(name)
    # An address is no name, and cannot be made to mean another one: ours is ours.
    own = None if server is None else _address(server)
    return called is not None and (called == own or called.is_loopback)


def is_own_page(headers: Mapping[str, str], scheme: str, origins: Collection[str] = ()) -> bool:
    """Whether a request for a change comes from no page at all, from ours, or from one that may.

    Args:
        headers: of a request whose host is ours, by their names in lower case.
        scheme: the request's, http or https.
        origins: other sites whose pages may.
    """
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "") not in _OF_ANOTHER_SITE
    own = f"{scheme}://{headers.get('host', '')}"
    return origin.lower() == own.lower() or origin in origins


def _without_port(host: str) -> str:
    """The name or address of a Host header, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if ":" in name else name


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
