"""A streaming parser of multipart bodies (RFC 2046 5.1, RFC 2387).

Fed with the body in chunks of any size, it tells of parts as they come; whatever the chunks, the
parts are the same. It holds no more than a part's header or a delimiter that a chunk cut in two.
Bodies of parts are handed on as views of the chunk they came in: nothing is copied on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

# The longest header of a part. What is sent to us has two or three lines.
MAX_HEADER_BYTES = 16 << 10
# The most parts in a body: what is answered for each is held in memory until the end.
MAX_PARTS = 100_000

# Spaces and tabs that may follow a delimiter on its line (RFC 2046 5.1.1, transport-padding).
_MAX_PADDING = 1 << 10
_PADDING = re.compile(rb"[ \t]{0,%d}" % (_MAX_PADDING + 1))
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = re.compile(rf"({_NAME})[ \t]*:[ \t]*([^\r\n\0]*)")
_MEDIA_TYPE = re.compile(rf"\s*({_NAME}/{_NAME})\s*")
_PARAMETER = re.compile(rf';\s*({_NAME})\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)\s*', re.DOTALL)


class MultipartError(Exception):
    """The body is no multipart body, or none that is accepted; no part follows any more."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type: name in lower case, and its parameters by names in lower case."""

    name: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part's header: values by names in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the part; the view is good until the next call of the parser."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part is whole."""


Event = PartBegun | PartData | PartEnded


def parse_media_type(text: str) -> MediaType:
    """Reads the value of a Content-Type (RFC 2045 5.1); values may be quoted.

    Raises:
        MultipartError: the value is no media type.
    """
    found = _MEDIA_TYPE.match(text)
    if found is None:
        raise MultipartError("The Content-Type is no media type.")
    parameters: dict[str, str] = {}
    at = found.end()
    while at < len(text) and text[at:].strip("; \t"):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            raise MultipartError("The Content-Type has a parameter that cannot be read.")
        name, value = parameter.groups()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        parameters.setdefault(name.lower(), value)
        at = parameter.end()
    return MediaType(found.group(1).lower(), parameters)


class _State(Enum):
    PREAMBLE = auto()
    HEADER = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Feed it the body, then `close` it.

    Raises:
        MultipartError: the boundary is not allowed (RFC 2046 5.1.1: 1 to 70 characters).
    """

    def __init__(
        self,
        boundary: str,
        *,
        max_header_bytes: int = MAX_HEADER_BYTES,
        max_parts: int = MAX_PARTS,
    ) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise MultipartError("The boundary is missing or is none.")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._max_header_bytes = max_header_bytes
        self._max_parts = max_parts
        self._state = _State.PREAMBLE
        # A delimiter begins with the end of the line before it. The first one may stand at the
        # very beginning, and one may follow a header at once: a line's end is thought before
        # them, and `_unsaid` of its bytes are not the part's.
        self._held = b"\r\n"
        self._unsaid = 2
        self._parts = 0

    def feed(self, chunk: bytes | memoryview) -> Iterator[Event]:
        """The events in the next bytes of the body; read them to their end before the next call.

        Raises:
            MultipartError: the body is no multipart body, or exceeds a bound; earlier events stand.
        """
        if self._state is _State.EPILOGUE:
            return
        data = self._held + bytes(chunk) if self._held else bytes(chunk)
        self._held = b""
        at: int | None = 0
        while at is not None and at < len(data):
            events: list[Event] = []
            if self._state is _State.HEADER:
                at = self._read_header(data, at, events)
            else:
                at = self._read_body(data, at, events)
            yield from events

    def close(self) -> None:
        """Says that the body has ended.

        Raises:
            MultipartError: the body ended before its closing delimiter.
        """
        if self._state is not _State.EPILOGUE:
            raise MultipartError("The body ended before its closing delimiter.")

    def _read_header(self, data: bytes, at: int, events: list[Event]) -> int | None:
        # The end of the delimiter's line has been read: an empty line right here ends a header
        # without lines.
        end = at if data.startswith(b"\r\n", at) else data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at > self._max_header_bytes + 3:  # all but the last byte of its end
                raise MultipartError("The header of a part is too long.")
            self._held = data[at:]
            return None
        if end - at > self._max_header_bytes:
            raise MultipartError("The header of a part is too long.")
        self._parts += 1
        if self._parts > self._max_parts:
            raise MultipartError(f"The body has more than {self._max_parts} parts.")
        events.append(PartBegun(_parse_header(data[at:end])))
        self._state = _State.BODY
        # The empty line's end may be the beginning of a delimiter.
        self._unsaid = 2
        return end if end == at else end + 2

    def _read_body(self, data: bytes, at: int, events: list[Event]) -> int | None:
        start = at
        while (found := data.find(self._delimiter, at)) >= 0:
            what, end = _judge_line(data, found + len(self._delimiter))
            if what is not _Line.OTHER:
                break
            at = found + 2  # only the beginning of a longer line: it belongs to the part
        else:
            found, what, end = _possible_beginning(data, self._delimiter, at), _Line.UNFINISHED, 0
        self._say(data, start, found, events)
        if what is _Line.UNFINISHED:
            self._held = data[found:]
            return None
        if self._state is _State.BODY:
            events.append(PartEnded())
        self._state = _State.EPILOGUE if what is _Line.CLOSING else _State.HEADER
        return None if what is _Line.CLOSING else end

    def _say(self, data: bytes, start: int, end: int, events: list[Event]) -> None:
        unsaid = min(self._unsaid, end - start)
        self._unsaid -= unsaid
        if self._state is _State.BODY and end - start > unsaid:
            events.append(PartData(memoryview(data)[start + unsaid : end]))


class _Line(Enum):
    NEXT = auto()
    CLOSING = auto()
    OTHER = auto()
    UNFINISHED = auto()


def _judge_line(data: bytes, at: int) -> tuple[_Line, int]:
    """What a line is that begins as a delimiter, and where the next one begins.

    The answer never depends on how much of the line has come: it is UNFINISHED until it is sure.
    """
    begun = data[at : at + 2]
    if begun == b"--":
        return _Line.CLOSING, at + 2
    if begun in (b"", b"-"):
        return _Line.UNFINISHED, at
    padding = _PADDING.match(data, at)
    assert padding is not None
    end = padding.end()
    if end - at > _MAX_PADDING:
        return _Line.OTHER, end
    following = data[end : end + 2]
    if following == b"\r\n":
        return _Line.NEXT, end + 2
    return (_Line.UNFINISHED if following in (b"", b"\r") else _Line.OTHER), end


def _possible_beginning(data: bytes, delimiter: bytes, at: int) -> int:
    """Where the end of the data may be the beginning of a delimiter; its length if nowhere."""
    found = data.find(b"\r", max(at, len(data) - len(delimiter) + 1))
    while found >= 0 and not delimiter.startswith(data[found:]):
        found = data.find(b"\r", found + 1)
    return len(data) if found < 0 else found


def _parse_header(block: bytes) -> dict[str, str]:
    text = block.decode("latin-1")
    headers: dict[str, str] = {}
    for line in re.sub(r"\r\n[ \t]+", " ", text).split("\r\n") if text else ():
        field = _FIELD.fullmatch(line)
        if field is None:
            raise MultipartError("The header of a part has a line that cannot be read.")
        name, value = field.group(1).lower(), field.group(2).strip()
        if name in headers:
            raise MultipartError("The header of a part says something twice.")
        headers[name] = value
    return headers
