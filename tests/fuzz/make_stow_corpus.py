"""Writes the seeds of the HTTP door's corpus: bodies as clients send them, cut down.

``python -m tests.fuzz.make_stow_corpus``. What the fuzzer finds is added by hand, under a telling
name.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.fuzz.dicom_door import CT, SYNTAXES
from tests.fuzz.make_corpus import data_set
from tests.fuzz.stow_door import PARSER, REQUEST, TEXTS

CORPUS = Path(__file__).parent / "corpus" / "multipart"


def file(syntax: str) -> bytes:
    """A small DICOM file."""
    values = {0x0002: CT, 0x0003: "1.2.3.4", 0x0010: syntax}
    meta = b"".join(_element(tag, text) for tag, text in values.items())
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + length + meta + data_set(syntax)


def part(content: bytes, header: bytes = b"Content-Type: application/dicom") -> bytes:
    """A part with its delimiter."""
    return b"--b\r\n" + header + b"\r\n\r\n" + content + b"\r\n"


def main() -> None:
    """Writes all seeds."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    end = b"--b--\r\n"
    first = file(SYNTAXES[1])
    bodies = {
        "two_parts": part(b"one") + part(b"two") + end,
        "no_parts": end,
        "preamble_epilogue": b"pre\r\n" + part(b"one") + end + b"--b\r\n\r\nepilogue",
        "padding": b"--b \t\r\n\r\none\r\n--b\t\r\n\r\n\r\n--b--",
        "no_header": b"--b\r\n\r\none\r\n--b\r\n\r\n--b--",
        "longer_boundary": b"--b\r\n\r\n\r\n--bb\r\n--b-\r\n--b--",
        "folded": part(b"x", b"Content-Type: application/dicom;\r\n\ttransfer-syntax=1.2") + end,
        "twice": part(b"x", b"A: b\r\nA: c") + end,
        "cut_off": part(first)[:-40],
    }
    seeds = {f"parser_{name}": bytes((PARSER, 3)) + body for name, body in bodies.items()}
    seeds |= {f"request_{name}": bytes((REQUEST, 7)) + body for name, body in bodies.items()}
    for syntax in SYNTAXES:
        seeds[f"request_{syntax}"] = bytes((REQUEST, 255)) + part(file(syntax)) + end
    typed = b"Content-Type: application/dicom; transfer-syntax=" + SYNTAXES[1].encode()
    seeds["request_typed"] = bytes((REQUEST, 64)) + part(first, typed) + part(b"x") + end
    seeds["texts_media_type"] = bytes((TEXTS, 0)) + b'multipart/related; type="a/b"; boundary=b'
    seeds["texts_accept"] = bytes((TEXTS, 0)) + b"application/dicom+xml;q=0.5, */*"
    seeds["texts_head"] = bytes((TEXTS, 0)) + first[:300]
    for name, seed in seeds.items():
        (CORPUS / name).write_bytes(seed)


def _element(tag: int, text: str) -> bytes:
    value = text.encode() + b"\0" * (len(text) % 2)
    return struct.pack("<HH2sH", 2, tag, b"UI", len(value)) + value


if __name__ == "__main__":
    main()
