"""The ASGI application: ``POST /studies`` and ``POST /studies/{study}`` (PS3.18 10.5).

The event loop only moves bytes: parsing, writing and syncing happen in a thread per request, and
no more of a body is read before what was read is written. Whom to serve is decided before a body
is looked at.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from services.common.identity import is_uid
from services.common.settings import AccessToken, StowSettings
from services.common.settings.access import bearer_of, find_token, has_expired
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import STOW_REQUESTS
from services.common.web_pages import is_own_host, is_own_page
from services.dimse.tls import PeerCertificate
from services.listener.door.admission import (
    AdmissionRules,
    PeerRule,
    Rejection,
    admit_http,
)
from services.listener.door.store import Facilities
from services.listener.stow.instance import DICOM_TYPE, StowTerms
from services.listener.stow.multipart import MultipartError, MultipartParser, parse_media_type
from services.listener.stow.progress import Progress
from services.listener.stow.request import StowRequest
from services.listener.stow.response import PartOutcome, Stored, negotiate, render, status_of

_log = get_logger("listener")

# The key in a request's scope under which the server tells the client's certificate.
CERTIFICATE = "axial.certificate"
# The key in a request's state under which the server hears that it is served, and not refused.
ADMITTED = "axial.admitted"

# What is handed to a request's thread at a time: large enough that the hand-over costs nothing.
_CHUNK_BYTES = 1 << 20
# Of the body of a refused request, what is read and thrown away so that the sender, who may look
# at the answer only when it has sent everything, hears why. A longer one finds the door shut.
_READ_OF_REFUSED_BYTES = 16 << 20
_READ_OF_REFUSED_S = 5.0
# Of an answer, what is handed on at a time: the next when the reader has taken what was before.
_PIECE_BYTES = 64 << 10
_RETRY_AFTER_S = 5

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StowDoor:
    """What the door depends on.

    Attributes:
        contexts: SOP class -> transfer syntaxes that are accepted for it.
        access_tokens: those of all doors over HTTP; of these the tokens that may store count here.
    """

    settings: StowSettings
    rules: AdmissionRules
    facilities: Facilities
    contexts: Mapping[str, tuple[str, ...]]
    access_tokens: tuple[AccessToken, ...] = ()


class _Refusal(Exception):
    """A request is answered before its body is taken."""

    def __init__(
        self, status: HTTPStatus, problem: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.headers = headers or {}


class _SenderGone(Exception):
    pass


class _Body(Enum):
    """How the reading of a body ended."""

    WHOLE = auto()
    MALFORMED = auto()
    TOO_LARGE = auto()
    TOO_SLOW = auto()


@dataclass(frozen=True, slots=True)
class _Asked:
    # A request's line and header.
    peer: PeerRule
    address: str
    study_uid: str
    boundary: str
    answer_type: str


class StowApp:
    """The application; one per server, used by its event loop alone."""

    def __init__(self, door: StowDoor) -> None:
        self._door = door
        self._working: Counter[str] = Counter()  # by peer
        self._numbers = itertools.count(1)  # of requests
        self._threads = ThreadPoolExecutor(door.settings.max_requests, "stow")

    def close(self) -> None:
        """Ends the threads, when no request is served any more."""
        self._threads.shutdown()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves a request."""
        assert scope["type"] == "http"
        headers = _headers(scope)
        try:
            asked = await asyncio.to_thread(self._look_at, scope, headers)
            self._occupy_place(asked.peer)
        except _Refusal as refusal:
            await _refuse(refusal, headers, receive, send)
            return
        scope.setdefault("state", {})[ADMITTED] = True
        try:
            await self._serve(asked, receive, send)
        except _SenderGone:  # there is nobody to answer
            STOW_REQUESTS.labels("gone").inc()
        finally:
            self._working[asked.peer.name] -= 1

    def _occupy_place(self, peer: PeerRule) -> None:
        if self._working.total() >= self._door.settings.max_requests:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "As many requests are served.", _LATER)
        own = self._working[peer.name]
        if peer.max_associations is not None and own >= peer.max_associations:
            problem = "As many requests of the peer are served as it may have."
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, problem, _LATER)
        self._working[peer.name] += 1

    async def _serve(self, asked: _Asked, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        peer = asked.peer
        name = f"stow.{next(self._numbers)}"
        terms = StowTerms(self._door.facilities, self._door.contexts, peer, asked.study_uid, name)
        request = StowRequest(terms, asked.boundary, asked.address)
        try:
            body = await self._read(request, receive)
        except BaseException:
            await self._in_thread(request.abandon)
            _log.warning("stow_abandoned", peer=peer.name, stored=_stored(request.outcomes))
            raise
        outcomes = await self._in_thread(request.finish)
        status = _status(body, request)
        more = dict(_LATER) if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        if body is not _Body.WHOLE and (body is _Body.TOO_SLOW or not await _read_away(receive)):
            more["Connection"] = "close"
        answer = await self._in_thread(
            render, outcomes, asked.answer_type, self._door.settings.public_url
        )
        STOW_REQUESTS.labels(str(int(status))).inc()
        _log.info(
            "stow_answered",
            peer=peer.name,
            status=int(status),
            stored=_stored(outcomes),
            failed=len(outcomes) - _stored(outcomes),
            bytes=sum(outcome.data_bytes for outcome in outcomes if isinstance(outcome, Stored)),
            seconds=round(time.monotonic() - begun, 3),
        )
        await _answer(send, status, asked.answer_type, answer, more)

    async def _read(self, request: StowRequest, receive: Receive) -> _Body:
        """Reads the body into the request, no faster than it is written."""
        settings = self._door.settings
        gathered: list[bytes] = []
        held = total = 0
        ended: _Body | None = None
        progress = Progress(settings.idle_timeout_s)
        while ended is None:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(progress.left_s):
                    message = await receive()
            except TimeoutError:
                ended = _Body.TOO_SLOW
                message = {}
            if message.get("type") == "http.disconnect":
                raise _SenderGone
            came: bytes = message.get("body", b"")
            progress.came(time.monotonic() - asked, len(came))
            gathered.append(came)
            held += len(came)
            total += len(came)
            if total > settings.max_request_bytes:
                ended = _Body.TOO_LARGE
            elif message and not message.get("more_body", False):
                ended = _Body.WHOLE
            if held >= _CHUNK_BYTES or ended is not None:
                chunk = b"".join(gathered)
                gathered.clear()
                held = 0
                await self._in_thread(request.feed, chunk)
            if request.malformed and ended is None:
                ended = _Body.MALFORMED
        return ended

    async def _in_thread(self, work: Callable[..., Any], *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *values)

    def _look_at(self, scope: Message, headers: Mapping[str, str]) -> _Asked:
        study_uid = _study_of(scope)
        self._look_for_pages(scope, headers)
        peer, address = self._admit(scope, headers)
        answer_type = negotiate(headers.get("accept"))
        if answer_type is None:
            raise _Refusal(HTTPStatus.NOT_ACCEPTABLE, "Answers are JSON or XML.")
        boundary = _boundary_of(headers)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._door.settings.max_request_bytes:
            raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large.")
        facilities = self._door.facilities
        if facilities.spool.free_bytes() < facilities.watermark_bytes:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The disk is nearly full.", _LATER)
        return _Asked(peer, address, study_uid, boundary, answer_type)

    def _look_for_pages(self, scope: Message, headers: Mapping[str, str]) -> None:
        """Refuses what a page of another site has a browser on a peer's machine send."""
        scheme, server = str(scope.get("scheme", "http")), scope.get("server")
        client = scope.get("client")
        address = client[0] if client else ""
        # A page has no token; and to a browser TLS proves the name that it calls.
        if scheme == "http" and not self._wants_token():
            host = headers.get("host", "")
            own = str(server[0]) if server else None
            if not is_own_host(host, own, self._door.settings.hosts):
                _turned_away(address, None, "host_not_recognised")
                problem = "The door has another name: its names are in listener.stow.hosts."
                raise _Refusal(HTTPStatus.MISDIRECTED_REQUEST, problem)
        if not is_own_page(headers, scheme):
            _turned_away(address, None, "origin_not_allowed")
            raise _Refusal(HTTPStatus.FORBIDDEN, "A page of another site may store nothing here.")

    def _admit(self, scope: Message, headers: Mapping[str, str]) -> tuple[PeerRule, str]:
        client = scope.get("client")
        address = client[0] if client else ""
        certificate: PeerCertificate | None = scope.get("extensions", {}).get(CERTIFICATE)
        decided = admit_http(address, certificate, self._door.rules)
        if isinstance(decided, Rejection):
            _turned_away(address, certificate, decided.reason)
            raise _Refusal(HTTPStatus.FORBIDDEN, "You are no peer that may store here.")
        if not self._token_suffices(headers.get("authorization", "")):
            _turned_away(address, certificate, "token_missing")
            wanted = {"WWW-Authenticate": 'Bearer realm="axial"'}
            raise _Refusal(HTTPStatus.UNAUTHORIZED, "A valid token is needed.", wanted)
        return decided, address

    def _wants_token(self) -> bool:
        return bool(self._door.settings.tokens or self._tokens_to_store())

    def _tokens_to_store(self) -> list[AccessToken]:
        return [token for token in self._door.access_tokens if "store" in token.actions]

    def _token_suffices(self, authorization: str) -> bool:
        """Whether none is wanted, or one is carried that is good for storing and in its time."""
        if not self._wants_token():
            return True
        plain = [token.get_secret_value() for token in self._door.settings.tokens]
        hashed = self._tokens_to_store()
        given = bearer_of(authorization)
        if given is None:
            return False
        known = find_token(given, hashed)
        if known is not None:
            return not has_expired(known, dt.datetime.now(dt.UTC))
        # Every token is compared, in a time that tells nothing about any of them.
        same = [hmac.compare_digest(given.encode(), token.encode()) for token in plain]
        return any(same)


_LATER = {"Retry-After": str(_RETRY_AFTER_S)}


def _headers(scope: Message) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def _study_of(scope: Message) -> str:
    parts = [part for part in scope["path"].split("/") if part]
    if parts[:1] != ["studies"] or len(parts) > 2:
        raise _Refusal(HTTPStatus.NOT_FOUND, "There are /studies and /studies/{study} here.")
    if scope["method"] != "POST":
        raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Instances are posted.", {"Allow": "POST"})
    study_uid = parts[1] if len(parts) == 2 else ""
    if study_uid and not is_uid(study_uid):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "The study in the path is no UID.")
    return study_uid


def _boundary_of(headers: Mapping[str, str]) -> str:
    if headers.get("content-encoding", "identity").lower() != "identity":
        problem = "Content encodings are not supported."
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem)
    try:
        media = parse_media_type(headers.get("content-type", ""))
    except MultipartError as error:
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
    of_parts = media.parameters.get("type", DICOM_TYPE).lower()
    if media.name != "multipart/related" or of_parts != DICOM_TYPE:
        problem = f'Instances come as multipart/related; type="{DICOM_TYPE}".'
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem)
    boundary = media.parameters.get("boundary", "")
    try:
        MultipartParser(boundary)
    except MultipartError as error:
        raise _Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error
    return boundary


def _turned_away(address: str, certificate: PeerCertificate | None, reason: str) -> None:
    _log.warning("stow_rejected", reason=reason, address=address)
    audit(
        AuditEvent.ASSOCIATION_REJECTED,
        reason=reason,
        address=address,
        certificate_sha256=certificate.sha256 if certificate else "",
    )


def _status(body: _Body, request: StowRequest) -> HTTPStatus:
    if body is _Body.TOO_LARGE:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if body is _Body.TOO_SLOW:
        return HTTPStatus.REQUEST_TIMEOUT
    # Of a body that is none, what could be read may be stored: then the answer says what.
    if request.malformed and not _stored(request.outcomes):
        return HTTPStatus.BAD_REQUEST
    return status_of(request.outcomes)


def _stored(outcomes: list[PartOutcome]) -> int:
    return sum(isinstance(outcome, Stored) for outcome in outcomes)


async def _refuse(
    refusal: _Refusal, headers: Mapping[str, str], receive: Receive, send: Send
) -> None:
    STOW_REQUESTS.labels(str(int(refusal.status))).inc()
    more = dict(refusal.headers)
    # Who waits for our word before sending the body has nothing to be read.
    if "expect" in headers or not await _read_away(receive):
        more["Connection"] = "close"
    text = f"{refusal.problem}\n".encode()
    await _answer(send, refusal.status, "text/plain; charset=utf-8", text, more)


async def _read_away(receive: Receive) -> bool:
    """Whether the body came to its end soon."""
    read = 0
    try:
        async with asyncio.timeout(_READ_OF_REFUSED_S):
            while read <= _READ_OF_REFUSED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        return False
    return False


async def _answer(
    send: Send, status: HTTPStatus, media_type: str, body: bytes, more: Mapping[str, str]
) -> None:
    headers = {"Content-Type": media_type, "Content-Length": str(len(body)), **more}
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": encoded})
    for start in range(0, len(body), _PIECE_BYTES):
        piece = body[start : start + _PIECE_BYTES]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
