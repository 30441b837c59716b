"""A web page in a browser on a peer's machine stores nothing: by no name and from no site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.builders.stow import CONTENT_TYPE, OpenDoor, body, open_door


def sent(door: OpenDoor, file: Path, headers: Mapping[str, str]) -> int:
    """The status of a request with headers of its own."""
    given = {"Content-Type": CONTENT_TYPE, **headers}
    content = body([file.read_bytes()])
    return httpx.post(f"{door.url}/studies", content=content, headers=given).status_code


def told_to(door: OpenDoor, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers in which PORT stands for the door's port."""
    port = door.url.rpartition(":")[2]
    return {name: value.replace("PORT", port) for name, value in headers.items()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"},  # a rebound page's
        {"Host": ""},
        {"Host": "10.0.0.7"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "[2001:db8::1]:PORT"},
        {"Host": "localhost.evil.example"},
    ],
)
def test_another_name_than_ours_stores_nothing(
    sound_files: list[Path], tmp_path: Path, headers: dict[str, str]
) -> None:
    with open_door(tmp_path) as door:
        assert sent(door, sound_files[0], told_to(door, headers)) == 421
        assert door.told == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "http://127.0.0.1:PORT.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("token", [False, True])
def test_a_page_of_another_site_stores_nothing(
    sound_files: list[Path], tmp_path: Path, headers: dict[str, str], token: bool
) -> None:
    with open_door(tmp_path, tokens=["secret"] if token else []) as door:
        given = {**told_to(door, headers), "Authorization": "Bearer secret"}
        assert sent(door, sound_files[0], given) == 403
        assert door.told == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:PORT"},
        {"Host": "LOCALHOST"},
        {"Host": "[::1]:PORT"},
        {"Host": "axial.hospital.example"},
        {"Origin": "http://127.0.0.1:PORT"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_our_own_names_are_answered(
    sound_files: list[Path], tmp_path: Path, headers: dict[str, str]
) -> None:
    with open_door(tmp_path, hosts=["Axial.Hospital.example"]) as door:
        assert sent(door, sound_files[0], told_to(door, headers)) == 200


def test_who_shows_a_token_may_call_any_name(sound_files: list[Path], tmp_path: Path) -> None:
    headers = {"Host": "axial.hospital.example", "Authorization": "Bearer secret"}
    with open_door(tmp_path, tokens=["secret"]) as door:
        assert sent(door, sound_files[0], headers) == 200
