"""The one place that every request passes: is it meant for us, from whom, and may it?

Three questions, in this order. *Host*: a browser that was told that some name is now our address
(DNS rebinding) still calls that name, and is refused. *Origin*: what changes something is not
done for another site's page. *Token*: beyond loopback, and wherever tokens are configured, every
route that tells or changes something wants one that is good for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.settings import Settings
from services.common.settings.access import AccessToken, bearer_of, find_token, has_expired
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.web_pages import is_own_host, is_own_page
from services.gateway.problems import GatewayError, problem_answer
from services.gateway.routes import ROUTES, Action

_log = get_logger("gateway")
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request goes no further: the reason for the audit trail, and what its sender reads."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


class Guard:
    """Decides on every request of an application before the application sees it.

    Args:
        app: the guarded application.
        routes: the application's routes.
        settings: names, origins and tokens.
        now: the clock.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: list[BaseRoute],
        settings: Settings,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._app = app
        self._routes = routes
        self._gateway = settings.gateway
        self._tokens = settings.access.tokens
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused, hands on the rest."""
        if scope["type"] != "http":
            # Nothing here is spoken over WebSockets; the life of the server is not a request.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._decide(request)
        if refused is None:
            await self._app(scope, receive, send)
            return
        address = request.client.host if request.client else ""
        _log.warning("request_refused", reason=refused.reason, address=address)
        audit(AuditEvent.ASSOCIATION_REJECTED, reason=refused.reason, address=address)
        error = GatewayError(refused.status, refused.reason.replace("_", "-"), refused.detail)
        answer = problem_answer(request, error)
        answer.headers.update(refused.headers)
        await answer(scope, receive, send)

    def _decide(self, request: Request) -> Refused | None:
        action = self._action(request)
        return (
            self._strange_host(request)
            or self._strange_origin(request)
            or (None if action is None or action is Action.OPEN else self._token(request, action))
        )

    def _action(self, request: Request) -> Action | None:
        """What the request does; None for a path that there is not, which is answered so."""
        method = "GET" if request.method == "HEAD" else request.method
        for route in self._routes:
            match, _ = route.matches(request.scope)
            if match is Match.FULL and isinstance(route, Route):
                # A route that nobody entered into the table is for nobody without a token.
                return ROUTES.get((method, route.path), Action.ACT)
        return None

    def _strange_host(self, request: Request) -> Refused | None:
        host = request.headers.get("host", "")
        server = request.scope.get("server")
        if is_own_host(host, str(server[0]) if server else None, self._gateway.hosts):
            return None
        detail = f"The gateway is not called '{host[:100]}'. Its names are in gateway.hosts."
        return Refused(421, "host_not_recognised", detail, {})

    def _strange_origin(self, request: Request) -> Refused | None:
        if request.method not in _CHANGING:
            return None
        if is_own_page(request.headers, request.url.scheme, self._gateway.origins):
            return None
        detail = "A page of another site may change nothing here; gateway.origins names those."
        return Refused(403, "origin_not_allowed", detail, {})

    def _token(self, request: Request, action: Action) -> Refused | None:
        if not self._tokens and self._gateway.on_loopback:
            return None
        given = bearer_of(request.headers.get("authorization", ""))
        token = None if given is None else find_token(given, self._tokens)
        if token is None:
            reason = "token_missing" if given is None else "token_unknown"
            return _unauthorised(reason, "A token is needed: Authorization: Bearer ...")
        if has_expired(token, self._now()):
            return _unauthorised("token_expired", f"The token '{token.name}' has expired.")
        return None if action in token.actions else _not_good_for(token, action)


def _unauthorised(reason: str, detail: str) -> Refused:
    return Refused(401, reason, detail, {"WWW-Authenticate": 'Bearer realm="axial"'})


def _not_good_for(token: AccessToken, action: Action) -> Refused:
    detail = f"The token '{token.name}' is not good for '{action}'."
    return Refused(403, "token_not_good_for_this", detail, {})
