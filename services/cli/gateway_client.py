"""Asking the gateway."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx

from services.cli.output import CommandError
from services.common.settings import Settings

TIMEOUT_S = 15.0


class GatewayClient:
    """A client of the gateway's API that speaks in one-line errors."""

    def __init__(self, settings: Settings) -> None:
        gateway = settings.gateway
        host = _reached_at(gateway.host)
        self._base = f"http://{host}:{gateway.port}"
        token = gateway.client_token
        self._headers = (
            {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        )

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET; None for 404.

        Raises:
            CommandError: the gateway does not answer, or answers with a problem.
        """
        return self._call("GET", path, query)

    def post(self, path: str, **query: Any) -> Any:
        """The answer to a POST; None for 404. Raises as `get`."""
        return self._call("POST", path, query)

    def post_document(self, path: str, document: Any) -> Any:
        """The answer to a POST of a JSON document; None for 404. Raises as `get`."""
        return self._call("POST", path, {}, document)

    def _call(self, method: str, path: str, query: dict[str, Any], document: Any = None) -> Any:
        try:
            response = httpx.request(
                method,
                self._base + path,
                params=query,
                json=document,
                headers=self._headers,
                timeout=TIMEOUT_S,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise CommandError(
                f"The gateway at {self._base} {_how_it_failed(error)}. "
                "Is the stack running (axial up)? Is this the right --config?"
            ) from error
        if response.status_code == 404:
            return None
        if response.status_code == 401:
            detail = response.json().get("detail", "")
            raise CommandError(
                f"The gateway at {self._base} wants a token: {detail} Give one in "
                "$AXIAL_GATEWAY__CLIENT_TOKEN."
            )
        if response.is_error:
            detail = response.json().get("detail", response.text)
            raise CommandError(f"The gateway answered {response.status_code}: {detail}")
        return response.json()


def _how_it_failed(error: httpx.HTTPError) -> str:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return "does not answer"
        case httpx.TimeoutException():
            return f"does not answer within {TIMEOUT_S:g} s"
        case _:
            return "broke off its answer"


def _reached_at(host: str) -> str:
    """The address under which a gateway that listens on `host` is reached from this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host
