"""Labels come back as they were stored, and only the same places are the same grid."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from services.common.fates import Refusal
from services.common.store import StoreError, StudyStore
from services.imaging import (
    GeometryLimits,
    ImagingError,
    SeriesGeometry,
    examine_series,
    labels_key,
    read_labels,
    write_labels,
)
from tests.builders.series import headers_of, small_volume, sound_series


def test_labels_come_back_as_they_were(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    labels = np.random.default_rng(2).integers(0, 3, (7, 12, 10), np.uint8)
    write_labels(store, labels_key("2.25.1", "labels"), labels)
    read = read_labels(store, "jobs/2.25.1/labels.npy.gz", (7, 12, 10))
    assert not isinstance(read, Refusal)
    assert np.array_equal(read, labels)


def test_labels_of_another_shape_are_a_mismatch_and_are_not_decompressed(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    write_labels(store, "labels", np.zeros((800, 400, 400), np.uint8))
    tracemalloc.start()
    read = read_labels(store, "labels", (7, 12, 10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(read, Refusal)
    assert "800 x 400 x 400" in read.sentence
    assert "7 x 12 x 10" in read.sentence
    assert peak < 16 << 20


def test_labels_in_another_memory_order_are_the_same_file(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    labels = np.random.default_rng(2).integers(0, 3, (7, 12, 10), np.uint8)
    write_labels(store, "a/labels", labels)
    write_labels(store, "b/labels", np.asfortranarray(labels))
    assert store.read("a/labels") == store.read("b/labels")


@pytest.mark.parametrize("wrong", [np.zeros((2, 2, 2)), np.zeros((2, 2), np.uint8)])
def test_only_uint8_of_three_axes_are_labels(wrong: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ImagingError):
        write_labels(StudyStore(tmp_path), "labels", wrong)


def test_damaged_labels_are_an_error_never_an_empty_mask(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    write_labels(store, "labels", np.ones((7, 12, 10), np.uint8))
    store.put("cut", [store.read("labels")[:-12]])
    store.put("other", [gzip.compress(b"something else")])
    damaged = bytearray(store.read("labels"))
    damaged[10:14] = b"\xff" * 4  # the first bytes behind the head of gzip
    store.put("damaged", [bytes(damaged)])
    for key in ("cut", "other", "damaged"):
        with pytest.raises(ImagingError):
            read_labels(store, key, (7, 12, 10))
    with pytest.raises(StoreError):
        read_labels(store, "absent", (7, 12, 10))


def test_geometry_and_volume_of_one_series_are_one_grid(tmp_path: Path) -> None:
    volume = small_volume()
    geometry = examine_series(headers_of(sound_series(tmp_path, volume)), GeometryLimits("m"))
    assert isinstance(geometry, SeriesGeometry)
    assert geometry.corners() == pytest.approx(volume.corners(), abs=1e-3)


def test_every_output_of_a_job_has_a_key_of_its_own() -> None:
    keys = {labels_key("2.25.1", name) for name in ("labels", "lesions", "Lesions_2")}
    assert len(keys) == 3
    for name in ("", "../other", "a/b", ".hidden", "a\n", "x" * 3 + "\0"):
        with pytest.raises(ImagingError, match="no name of an output"):
            labels_key("2.25.1", name)
