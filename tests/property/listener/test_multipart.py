"""The multipart parser: any split of the bytes gives the same parts, whatever the bytes are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.listener.stow.multipart import (
    Event,
    MultipartError,
    MultipartParser,
    PartBegun,
    PartData,
    PartEnded,
    parse_media_type,
)

BOUNDARY = "b-1"


@dataclass
class Part:
    headers: dict[str, str]
    data: bytes = b""
    ended: bool = field(default=False)


def parse(*chunks: bytes, boundary: str = BOUNDARY, close: bool = True) -> list[Part]:
    parser = MultipartParser(boundary)
    parts: list[Part] = []
    for chunk in chunks:
        for event in parser.feed(chunk):
            collect(parts, event)
    if close:
        parser.close()
    return parts


def collect(parts: list[Part], event: Event) -> None:
    match event:
        case PartBegun(headers):
            assert not parts or parts[-1].ended
            parts.append(Part(dict(headers)))
        case PartData(data):
            assert len(data) > 0
            assert not parts[-1].ended
            parts[-1].data += data
        case PartEnded():
            assert not parts[-1].ended
            parts[-1].ended = True


def told(parser: MultipartParser, *chunks: bytes) -> list[Event]:
    return [event for chunk in chunks for event in parser.feed(chunk)]


def outcome(chunks: list[bytes]) -> tuple[list[Part], str]:
    """The parts and how it ended, for bodies that may be none."""
    parser = MultipartParser(BOUNDARY)
    parts: list[Part] = []
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                collect(parts, event)
        parser.close()
    except MultipartError as error:
        return [part for part in parts if part.ended], str(error)
    return parts, ""


def body(*parts: bytes, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    joined = b"".join(b"\r\n--b-1\r\nContent-Type: application/dicom\r\n\r\n" + p for p in parts)
    whole = preamble + joined + b"\r\n--b-1--" + epilogue
    return whole if preamble else whole.removeprefix(b"\r\n")


# Bytes that come close to delimiters.
FRAGMENTS = st.sampled_from(
    (
        *(b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n--b-", b"--b-1", b"b-1"),
        *(b"\r\n--b-1", b"\r\n--b-1x", b"\r\n--b-1--", b"\r\n--b-1\r\n", b"Name: value"),
        *(b"x", b"\0", b" ", b"\t"),
    )
)
CLOSE_BYTES = st.lists(FRAGMENTS, max_size=12).map(b"".join)
SPLITS = st.lists(st.integers(0, 400), max_size=12)


def split(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in at})
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@settings(max_examples=400)
@given(CLOSE_BYTES, SPLITS)
@example(b"--b-1\r\n\r\n--b-1--", [8])
@example(b"--b-1\r\n\r\nx\r\n--b-1\r\nx\r\n\r\n", [20])
def test_any_split_of_any_bytes_tells_the_same(data: bytes, at: list[int]) -> None:
    whole = outcome([data])
    assert outcome(split(data, at)) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole


@settings(max_examples=300)
@given(
    st.lists(st.one_of(CLOSE_BYTES, st.binary(max_size=200)), max_size=5),
    CLOSE_BYTES,
    CLOSE_BYTES,
    SPLITS,
)
def test_what_was_put_in_comes_out(
    parts: list[bytes], preamble: bytes, epilogue: bytes, at: list[int]
) -> None:
    def innocent(data: bytes) -> bool:
        return not any(
            b"\r\n--b-1" + end in b"\r\n" + data + b"\r\n" for end in (b"\r\n", b"--", b" ", b"\t")
        )

    kept = [part for part in parts if innocent(part)]
    sent = body(*kept, preamble=preamble if innocent(preamble) else b"", epilogue=epilogue)
    found = parse(*split(sent, at))
    assert [part.data for part in found] == kept
    assert all(part.ended for part in found)
    assert all(part.headers == {"content-type": "application/dicom"} for part in found)


def test_parts_preamble_epilogue_padding_and_folded_lines() -> None:
    sent = (
        b"This is a message in several parts.\r\n--b-1 \t\r\n"
        b'Content-Type: application/dicom;\r\n\ttransfer-syntax="1.2"\r\n'
        b"Content-Location: x\r\n\r\n"
        b"one\r\n--b-1x\r\n--b-1\t\r\n\r\n\r\n--b-1\r\nA:b\r\n\r\n--b-1--\r\n--b-1\r\n\r\nepilogue"
    )
    folded = 'application/dicom; transfer-syntax="1.2"'
    assert parse(sent) == [
        Part({"content-type": folded, "content-location": "x"}, b"one\r\n--b-1x", True),
        Part({}, b"", True),
        Part({"a": "b"}, b"", True),
    ]


def test_a_part_may_be_larger_than_any_chunk_and_is_not_copied() -> None:
    chunk = bytes(1 << 16)
    parser = MultipartParser(BOUNDARY)
    told(parser, b"--b-1\r\n\r\n")
    (event,) = parser.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data.obj is not None
    seen = len(event.data)
    for _ in range(100):
        (event,) = parser.feed(chunk)
        assert isinstance(event, PartData)
        assert event.data.obj is chunk
        seen += len(event.data)
    assert told(parser, b"\r\n--b-1--") == [PartEnded()]
    parser.close()
    assert seen == 101 << 16


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"--b-1",
        b"--b-1\r\n",
        b"--b-1\r\n\r\ntext",
        b"--b-1\r\n\r\ntext\r\n--b-1",
        b"--b-1\r\n\r\ntext\r\n--b-1-",
        b"--b-1\r\n\r\ntext\r\n--b-2--",
        b"--b-1\r\nno field\r\n\r\ntext\r\n--b-1--",
        b"--b-1\r\nA: b\r\na: c\r\n\r\ntext\r\n--b-1--",
        b"--b-1\r\nA: b\nC: d\r\n\r\ntext\r\n--b-1--",
        b"--b-1\n\ntext\n--b-1--",
    ],
)
def test_what_is_no_multipart_body_is_an_error(sent: bytes) -> None:
    with pytest.raises(MultipartError):
        parse(sent)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(("length", "accepted"), [(100, True), (101, False)])
def test_a_header_has_a_bound(length: int, accepted: bool, step: int) -> None:
    header = b"A: " + b"x" * (length - 3)
    sent = b"--b-1\r\n" + header + b"\r\n\r\n\r\n--b-1--"
    parser = MultipartParser(BOUNDARY, max_header_bytes=100)
    chunks = [sent[at : at + step] for at in range(0, len(sent), step)]
    if accepted:
        assert told(parser, *chunks)[-1] == PartEnded()
    else:
        with pytest.raises(MultipartError, match="too long"):
            told(parser, *chunks)


def test_a_header_that_never_ends_is_given_up() -> None:
    parser = MultipartParser(BOUNDARY)
    told(parser, b"--b-1\r\n")
    with pytest.raises(MultipartError, match="too long"):
        told(parser, *[b"A" * 1000] * 100)


def test_parts_before_what_cannot_be_read_are_told() -> None:
    parser = MultipartParser(BOUNDARY)
    parts: list[Part] = []
    with pytest.raises(MultipartError):  # noqa: PT012 - what it tells before counts
        for event in parser.feed(b"--b-1\r\n\r\none\r\n--b-1\r\nno field\r\n\r\n"):
            collect(parts, event)
    assert parts == [Part({}, b"one", True)]


def test_padding_that_never_ends_is_no_delimiter_and_is_not_held() -> None:
    parser = MultipartParser(BOUNDARY)
    told(parser, b"--b-1\r\n\r\n\r\n--b-1")
    seen = 0
    for _ in range(100):
        for event in parser.feed(b" " * 1000):
            assert isinstance(event, PartData)
            seen += len(event.data)
    assert seen > 98_000


def test_the_number_of_parts_has_a_bound() -> None:
    parser = MultipartParser(BOUNDARY, max_parts=2)
    with pytest.raises(MultipartError, match="more than 2 parts"):
        told(parser, body(b"1", b"2", b"3"))


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ends with space ", "a\r\nb", "ü", "a\0"])
def test_a_boundary_that_is_none(boundary: str) -> None:
    with pytest.raises(MultipartError):
        MultipartParser(boundary)


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "a b", "'()+_,-./:=?", "----=_Part_1"])
def test_every_boundary_of_the_standard(boundary: str) -> None:
    edge = boundary.encode()
    sent = b"--" + edge + b"\r\n\r\ntext\r\n--" + edge + b"--"
    assert [part.data for part in parse(sent, boundary=boundary)] == [b"text"]


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        (
            'multipart/related; type="application/dicom"; boundary=abc',
            "multipart/related",
            {"type": "application/dicom", "boundary": "abc"},
        ),
        (
            'Multipart/Related;TYPE=application/dicom;Boundary="a b\\"c;d" ;',
            "multipart/related",
            {"type": "application/dicom", "boundary": 'a b"c;d'},
        ),
        ("application/dicom", "application/dicom", {}),
        (
            " application/dicom ; transfer-syntax=1.2.3",
            "application/dicom",
            {"transfer-syntax": "1.2.3"},
        ),
        ("a/b; x=1; x=2", "a/b", {"x": "1"}),
    ],
)
def test_media_types(text: str, name: str, parameters: dict[str, str]) -> None:
    found = parse_media_type(text)
    assert (found.name, found.parameters) == (name, parameters)


@pytest.mark.parametrize(
    "text", ["", "multipart", "a/b; =c", 'a/b; c="d', "a/b c", "a/b; c", "a/b; c=d e"]
)
def test_what_is_no_media_type(text: str) -> None:
    with pytest.raises(MultipartError):
        parse_media_type(text)


@given(st.text(alphabet='ab/;="\\ \t,x-\n', max_size=60))
def test_any_text_is_a_media_type_or_an_error(text: str) -> None:
    try:
        parse_media_type(text)
    except MultipartError:
        return
