"""Heads of many files at once: what a library says, without asking it."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from services.common.headers import read_registration
from services.imaging import header_files
from services.imaging.header_files import read_headers
from tests.builders.series import sound_series


def _written_as(file: Path, syntax: str, folder: Path) -> Path:
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = UID(syntax)
    out = folder / f"{syntax}.dcm"
    pydicom.dcmwrite(
        out,
        data,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )
    return out


def test_the_library_is_asked_about_what_the_scanner_cannot_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sound_series(tmp_path / "series")[0]
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    files = [_written_as(file, syntax, tmp_path) for syntax in syntaxes]
    # A group length that is not true, as some senders write it.
    wrong = tmp_path / "wrong.dcm"
    content = bytearray(files[0].read_bytes())
    content[140:144] = (7).to_bytes(4, "little")
    wrong.write_bytes(content)
    files.append(wrong)
    expected = []
    for each in files[:3]:
        with each.open("rb") as stream:
            expected.append(read_registration(stream).header)
    asked: list[str] = []

    def counted(stream: object) -> object:
        asked.append(Path(stream.name).name)  # type: ignore[attr-defined]
        return read_registration(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(header_files, "read_registration", counted)
    found = read_headers(files)
    assert found[:3] == expected
    assert found[3] == expected[0]
    assert asked == [files[2].name]
