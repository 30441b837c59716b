"""What the fuzzer and the corpus test of the HTTP door share: its parser, and a whole request.

Every function takes any bytes and raises only what nobody planned for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from xml.etree import ElementTree

from services.common.headers import scheme
from services.common.part10_head import HeadError, read_head
from services.listener.door.admission import PeerRule
from services.listener.door.messages import Told
from services.listener.door.spool import Spool
from services.listener.door.store import Facilities
from services.listener.stow.instance import StowTerms
from services.listener.stow.multipart import (
    MultipartError,
    MultipartParser,
    PartBegun,
    PartData,
    PartEnded,
    parse_media_type,
)
from services.listener.stow.request import StowRequest
from services.listener.stow.response import JSON_TYPE, XML_TYPE, negotiate, render, status_of
from tests.fuzz.dicom_door import CT, SYNTAXES
from tests.fuzz.spool_in_memory import empty_spool, spool_in_memory

BOUNDARY = "b"
PARSER, REQUEST, TEXTS = range(3)

# Parts that have ended, and why the rest could not be read.
_Told = tuple[list[tuple[dict[str, str], bytes]], str]


class StowFailure(AssertionError):
    """The door did what it must not do."""


def run(door: StowUnderTest, data: bytes) -> None:
    """One input: its first byte chooses what it is given to, its second where it is cut."""
    if len(data) < 2:
        return
    kind, step, rest = data[0] % 3, data[1] or 1, data[2:]
    if kind == PARSER:
        same_parts_however_cut(rest, step)
    elif kind == REQUEST:
        door.serve(rest, step)
    else:
        read_texts(rest)


def same_parts_however_cut(body: bytes, step: int) -> None:
    """The parser tells of the same parts whether the body comes whole or in pieces.

    Raises:
        StowFailure: it does not.
    """
    if _parse([body]) != _parse(_cut(body, step)):
        raise StowFailure("The parts depend on how the body was cut.")


def read_texts(data: bytes) -> None:
    """The parsers of headers, and of a file's head."""
    text = data.decode("latin-1")
    with contextlib.suppress(MultipartError):
        parse_media_type(text)
    negotiate(text)
    for complete in (False, True):
        with contextlib.suppress(HeadError):
            read_head(data, complete=complete)


class StowUnderTest:
    """Takes whole bodies into a spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._told: list[Told] = []
        facilities = Facilities(spool, scheme(), 0, self._told.append)
        self._terms = StowTerms(facilities, {CT: SYNTAXES}, PeerRule("fuzzer", ()))

    def serve(self, body: bytes, step: int) -> int:
        """Serves a body in pieces; how many instances were stored.

        Raises:
            AssertionError: a file is left of what was not stored, or the answer is none.
        """
        self._told.clear()
        request = StowRequest(self._terms, BOUNDARY, "192.0.2.1")
        for piece in _cut(body, step):
            request.feed(piece)
        outcomes = request.finish()
        json.loads(render(outcomes, JSON_TYPE, "http://pacs.example"))
        ElementTree.fromstring(render(outcomes, XML_TYPE))
        status_of(outcomes)
        return len(empty_spool(self._spool, self._told))


@contextlib.contextmanager
def open_stow() -> Generator[StowUnderTest]:
    """A door with a spool in memory."""
    with spool_in_memory() as spool:
        yield StowUnderTest(spool)


def _parse(pieces: list[bytes]) -> _Told:
    parser = MultipartParser(BOUNDARY, max_header_bytes=200, max_parts=20)
    parts: list[tuple[dict[str, str], bytes]] = []
    headers: dict[str, str] | None = None
    content = b""
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                match event:
                    case PartBegun(given):
                        _must(headers is None)
                        headers, content = dict(given), b""
                    case PartData(data):
                        _must(headers is not None and len(data) > 0)
                        content += data
                    case PartEnded():
                        _must(headers is not None)
                        assert headers is not None
                        parts.append((headers, content))
                        headers = None
        parser.close()
    except MultipartError as error:
        return parts, str(error)
    return parts, ""


def _cut(body: bytes, step: int) -> list[bytes]:
    return [body[at : at + step] for at in range(0, len(body), step)]


def _must(holds: bool) -> None:
    if not holds:
        raise StowFailure("The parser told of data or an end outside of a part.")
