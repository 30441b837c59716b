"""The CSA header: read as written, and refused in every state of damage."""

from __future__ import annotations

import struct

import pytest

from services.imaging.csa import CSAError, read_csa


def element(name: str, values: list[str]) -> bytes:
    items = [
        struct.pack("<4i", len(text), len(text), 77, len(text))
        + text.encode().ljust((len(text) + 3) // 4 * 4, b"\0")
        for text in values
    ]
    head = struct.pack("<64si4siII", name.encode(), len(values), b"DS", 0, len(values), 77)
    return head + b"".join(items)


def header(*elements: bytes) -> bytes:
    return struct.pack("<4s4sII", b"SV10", b"\4\3\2\1", len(elements), 77) + b"".join(elements)


SOUND = header(
    element("NumberOfImagesInMosaic", ["35      ", "", ""]),
    element("SliceNormalVector", ["0.0", "0.10799935", "0.99415096"]),
)


def test_values_are_read_as_text_and_empty_ones_left_out() -> None:
    assert read_csa(SOUND) == {
        "NumberOfImagesInMosaic": ("35",),
        "SliceNormalVector": ("0.0", "0.10799935", "0.99415096"),
    }


@pytest.mark.parametrize("length", range(0, len(SOUND) - 4, 3))
def test_a_cut_off_header_is_an_error(length: int) -> None:
    with pytest.raises(CSAError):
        read_csa(SOUND[:length])


def test_the_older_form_is_an_error() -> None:
    with pytest.raises(CSAError):
        read_csa(SOUND[8:])


@pytest.mark.parametrize("value", [0xFFFFFFFF, 1 << 20])
def test_a_damaged_count_ends_soon(value: int) -> None:
    damaged = bytearray(SOUND)
    struct.pack_into("<I", damaged, 8, value)
    with pytest.raises(CSAError):
        read_csa(bytes(damaged))


def test_a_negative_length_is_an_error() -> None:
    damaged = bytearray(SOUND)
    struct.pack_into("<i", damaged, 16 + 84 + 4, -4)
    with pytest.raises(CSAError):
        read_csa(bytes(damaged))
