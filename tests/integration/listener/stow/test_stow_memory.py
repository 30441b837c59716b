"""The STOW-RS door's memory stays flat, however large the study and however large an instance.

``SOAK_GIB=4`` sends a study of 4 GiB (`make soak`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import httpx
import psutil
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.builders.series import sound_series
from tests.builders.stow import BOUNDARY, CONTENT_TYPE, data_set_of

GIB = float(os.environ.get("SOAK_GIB", "1"))
# What a door may grow by while it works: its threads' chunks, and what is answered per instance.
MOST_GROWTH_BYTES = 48 << 20
SLICE_BYTES = 512 << 10
CHUNK = os.urandom(1 << 20)


class Door:
    """A door in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def peak_bytes(self) -> int:
        """The most memory that it ever had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def finish(self) -> list[str]:
        """Stops it; SHA-256 of each data set that it stored."""
        out, _ = self.process.communicate("", timeout=60)
        return json.loads(out)


@pytest.fixture
def door(tmp_path: Path) -> Generator[Door]:
    """A door that forgets what it stored."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.builders.stow_process", str(tmp_path / "door")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Door(process, line_of(process.stdout))
        finally:
            if process.poll() is None:
                psutil.Process(process.pid).kill()
                process.wait(10)


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def head_of(file: Path, pixel_bytes: int) -> bytes:
    """A DICOM file up to its pixels, of which there are said to be so many."""
    data = pydicom.dcmread(file)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PixelData = b"\0\0"
    data["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()[:-6] + pixel_bytes.to_bytes(4, "little")


def study(heads: list[bytes], pixel_bytes: int, digests: list[str]) -> Iterator[bytes]:
    """A body that is made while it is sent; notes the digest of each data set."""
    for head in heads:
        digest = hashlib.sha256(data_set_of(head))
        yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + head
        left = pixel_bytes
        while left:
            chunk = CHUNK[: min(left, len(CHUNK))]
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
        yield b"\r\n"
        digests.append(digest.hexdigest())
    yield f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize("pixel_bytes", [SLICE_BYTES, 256 << 20], ids=["slices", "multi-frame"])
@pytest.mark.timeout(1800)
def test_memory_does_not_grow_with_the_study(pixel_bytes: int, door: Door, tmp_path: Path) -> None:
    file = sound_series(tmp_path / "dicom")[0]
    heads = [head_of(file, pixel_bytes) for _ in range(int(GIB * 2**30 / pixel_bytes) or 1)]
    warm: list[str] = []
    sent: list[str] = []
    headers = {"Content-Type": CONTENT_TYPE}
    with httpx.Client(timeout=300) as client:
        url = f"{door.url}/studies"
        first = study([head_of(file, SLICE_BYTES) for _ in range(20)], SLICE_BYTES, warm)
        assert client.post(url, content=first, headers=headers).status_code == 200
        before = door.peak_bytes()
        whole = study(heads, pixel_bytes, sent)
        response = client.post(url, content=whole, headers=headers)
        growth = door.peak_bytes() - before
    assert response.status_code == 200
    assert len(response.json()["00081199"]["Value"]) == len(heads)
    assert growth < MOST_GROWTH_BYTES, f"{growth} bytes"
    assert sorted(door.finish()) == sorted(warm + sent)
