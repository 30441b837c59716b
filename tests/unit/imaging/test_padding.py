"""What an image declares to be padding was not measured (PS3.3 C.7.5.1.1.2): it is no value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEGLSLossless, RLELossless

from services.common.fates import Refusal
from services.imaging import GeometryLimits, Volume, read_series
from tests.builders.broken_series import gantry_tilt
from tests.builders.enhanced import enhanced_of
from tests.builders.series import as_sent, small_volume, sound_series

SHAPE = (5, 12, 10)
# In every slice: a corner, and one voxel in the middle.
HOLES = np.zeros(SHAPE, bool)
HOLES[:, :3, :2] = HOLES[:, 6, 5] = True


def put(
    files: list[Path],
    words: NDArray[Any],
    padding: tuple[str, int] | None,
    limit: int | None = None,
    **attributes: Any,
) -> None:
    """Stored words [k, j, i], and the padding that every image declares, by VR and value."""
    for file, plane in zip(files, words, strict=True):
        data = pydicom.dcmread(file)
        data.PixelRepresentation = int(words.dtype.kind == "i")
        bits = 8 * words.dtype.itemsize
        data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
        for keyword, value in attributes.items():
            setattr(data, keyword, value)
        data.PixelData = plane.tobytes()
        data["PixelData"].VR = "OW"
        if padding is not None:
            data.add_new(0x00280120, padding[0], padding[1])
        if limit is not None and padding is not None:
            data.add_new(0x00280121, padding[0], limit)
        data.save_as(file)


def read(files: list[Path], limits: GeometryLimits | None = None) -> Volume:
    volume = read_series(files, limits)
    assert isinstance(volume, Volume), volume
    return volume


def words_with(padding: int, dtype: str = "<i2") -> NDArray[Any]:
    words = np.random.default_rng(2).integers(1, 100, SHAPE).astype(dtype)
    words[HOLES] = padding
    return words


@pytest.mark.parametrize(
    ("dtype", "stored", "vr", "told"),
    [
        ("<i2", -32768, "SS", -32768),
        ("<i2", -2000, "SS", -2000),
        ("<i2", -2000, "US", 63536),
        ("<u2", 65535, "US", 65535),
        ("<u2", 65535, "SS", -1),
        ("<u2", 0, "US", 0),
        ("|u1", 255, "US", 255),
    ],
)
def test_padding_is_no_value(dtype: str, stored: int, vr: str, told: int, tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    put(files, words_with(stored, dtype), (vr, told))
    volume = read(files)
    assert volume.padding is not None
    assert np.array_equal(volume.padding, HOLES)
    assert np.array_equal(np.isnan(volume.values()), HOLES)
    assert np.array_equal(volume.values()[~HOLES], words_with(stored, dtype)[~HOLES])


def test_stored_values_are_compared_before_they_are_rescaled(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    words = words_with(-1500)
    # A slope and an intercept by which 50 means -1500.
    put(files, words, ("SS", -1500), RescaleSlope="2", RescaleIntercept="-1600")
    volume = read(files)
    assert np.array_equal(np.isnan(volume.values()), HOLES)
    assert np.array_equal(volume.values()[~HOLES], words[~HOLES] * 2.0 - 1600)


@pytest.mark.parametrize("ends", [(-2000, -1024), (-1024, -2000)])
def test_a_range_of_padding_includes_its_ends(ends: tuple[int, int], tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    words = words_with(-1500)
    words[0, 0, 0], words[0, 0, 1] = -2000, -1024
    words[2, 8, 8], words[2, 8, 9] = -2001, -1023
    put(files, words, ("SS", ends[0]), limit=ends[1])
    assert np.array_equal(np.isnan(read(files).values()), HOLES)


def test_every_image_has_its_own_padding_and_only_where_it_declares_it(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    words = np.full(SHAPE, 7, "<i2")
    words[:, 0, 0], words[:, 0, 1] = -1, -2
    put(files, words, None)
    put(files[:1], words[:1], ("SS", -1))
    put(files[1:2], words[1:2], ("SS", -2))
    expected = np.zeros(SHAPE, bool)
    expected[0, 0, 0] = expected[1, 0, 1] = True
    assert np.array_equal(np.isnan(read(files).values()), expected)


def test_values_of_images_that_differ_in_rescale_are_padded_too(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    for k, file in enumerate(files):
        put([file], words_with(-5)[k : k + 1], ("SS", -5), RescaleSlope=str(k + 1))
    volume = read(files)
    assert volume.array.dtype == np.float32
    assert np.array_equal(np.isnan(volume.values()), HOLES)


def test_padding_outside_of_the_bits_of_a_value_is_told_by_the_whole_word(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    words = words_with(0xF830, "<u2")  # its low twelve bits say 2096, which a voxel measures too
    words[1, 8, 8] = 0x0830
    put(files, words, ("US", 0xF830), BitsStored=12, HighBit=11)
    values = read(files).values()
    assert np.array_equal(np.isnan(values), HOLES)
    assert values[1, 8, 8] == 2096


def test_padding_within_the_bits_of_a_value_is_told_whatever_lies_beside(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    words = words_with(4095, "<u2")
    words[::2] |= 0x9000
    put(files, words, ("US", 4095), BitsStored=12, HighBit=11)
    assert np.array_equal(np.isnan(read(files).values()), HOLES)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_padding_of_compressed_images_is_no_value(syntax: str, tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    put(files, words_with(-2000), ("SS", -2000))
    for file in files:
        data = pydicom.dcmread(file)
        data.compress(syntax, generate_instance_uid=False)
        data.save_as(file)
    assert np.array_equal(np.isnan(read(files).values()), HOLES)


def test_padding_of_frames_is_no_value(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "classic", small_volume(SHAPE))
    put(files, words_with(-2000), ("SS", -2000))
    enhanced = enhanced_of(files, tmp_path / "enhanced.dcm")
    assert np.array_equal(np.isnan(read([enhanced]).values()), HOLES)


def test_resampled_voxels_are_made_of_measured_ones_only(tmp_path: Path) -> None:
    files = gantry_tilt(tmp_path)
    shape = (len(files), 12, 10)
    words = np.full(shape, 100, "<i2")
    words[3, 4:7, 3:6] = -2000
    put(files, words, ("SS", -2000))
    volume = read(files, GeometryLimits("a model", accepts_gantry_tilt=True))
    values = volume.values()
    assert volume.padding is not None
    assert np.array_equal(np.isnan(values), volume.padding)
    assert volume.padding.any()
    # Nowhere a mixture of padding and measurement, nor padding as the lowest value.
    assert set(np.unique(np.rint(values[~volume.padding])).tolist()) == {100.0}


def test_a_series_of_padding_alone_is_refused(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    put(files, np.full(SHAPE, -2000, "<i2"), ("SS", -2000))
    refusal = read_series(files)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "blank_image"
    assert "not measured" in refusal.sentence


def test_padding_that_is_no_number_is_refused(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    as_sent(files[2], 0x00280120, "LO", b"none")
    refusal = read_series(files)
    assert isinstance(refusal, Refusal)
    assert refusal.values["problem"] == "their pixel padding value is no number"
