"""A scan with padding, from its files through Triton, has the brain that it has without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from models.building.reference_volumes import ReferenceVolume
from models.evaluate import dice
from services.imaging import Volume, read_series
from tests.integration.models.conftest import RunningTriton

Scan = Callable[[str], Path]
SCAN = "philips-mr-mprage-classic"


def read(files: list[Path]) -> ReferenceVolume:
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    return ReferenceVolume(volume.values(), volume.affine)


@pytest.fixture(scope="module")
def twin(triton_server: RunningTriton, scan: Scan) -> NDArray[np.uint8]:
    """The brain of the untouched scan, slices along the patient."""
    labels, _ = triton_server.ask(read(sorted(scan(SCAN).rglob("*.dcm"))))
    return labels


def round_field_of_view(shape: tuple[int, int]) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x - 127.5) ** 2 + (y - 127.5) ** 2 > 127.5**2


def corner(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """One pixel in a hundred."""
    padded = np.zeros(shape, bool)
    padded[:26, :26] = True
    return padded


def padded_scan(
    scan: Path, folder: Path, where: Callable[[tuple[int, int]], NDArray[np.bool_]], value: int
) -> list[Path]:
    files: list[Path] = []
    for file in sorted(scan.rglob("*.dcm")):
        data: Any = pydicom.dcmread(file)
        pixels = data.pixel_array.astype("<i2")
        pixels[where(pixels.shape)] = value
        data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, 1
        data.PixelData = pixels.tobytes()
        data.add_new(0x00280120, "SS", value)
        files.append(folder / file.name)
        data.save_as(files[-1])
    return files


@pytest.mark.parametrize("value", [-32768, -2000])
@pytest.mark.parametrize("where", [round_field_of_view, corner])
def test_padding_does_not_change_the_brain(
    where: Callable[[tuple[int, int]], NDArray[np.bool_]],
    value: int,
    triton_server: RunningTriton,
    twin: NDArray[np.uint8],
    scan: Scan,
    tmp_path: Path,
) -> None:
    labels, answer = triton_server.ask(read(padded_scan(scan(SCAN), tmp_path, where, value)))
    assert not answer.HasField("refusal")
    assert abs(int(labels.sum()) / int(twin.sum()) - 1) < 0.01
    assert dice(labels, twin) > 0.99
