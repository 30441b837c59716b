"""No SEG of ours needs a pad byte, as long as the source has a plane without voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.kinds.segmentation.packing import further_frames, needs_pad, packed
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN, Form
from tests.builders.forms import form_of
from tests.builders.reporting import analysis_of, series_in, three_segments

# Rows and columns of which a frame is no whole number of bytes, or an odd one.
ODD = [(11, 9), (13, 15), (7, 7), (3, 59), (12, 10), (9, 12), (5, 6), (1, 1), (17, 17)]


def labels_in(shape: tuple[int, int, int], planes: slice, number: int = 1) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[planes] = number
    return labels


def encoded(
    folder: Path, labels: np.ndarray, form: Form = PLAIN
) -> tuple[pydicom.FileDataset, str | None]:
    """The SEG as a receiver reads it, and what our own check says of it."""
    files = series_in(folder / "series", "oblique", labels.shape)
    analysis = analysis_of(files, labels, three_segments())
    file = folder / "seg.dcm"
    file.write_bytes(encode_segmentation(analysis, form, 1))
    return pydicom.dcmread(file), check_segmentation(file, analysis, form)


@pytest.mark.parametrize(("rows", "columns"), ODD)
@pytest.mark.parametrize("found", [1, 2, 3])
def test_no_pad_byte_where_a_plane_without_voxels_is_left(
    tmp_path: Path, rows: int, columns: int, found: int
) -> None:
    labels = labels_in((20, rows, columns), slice(2, 2 + found))
    seg, problem = encoded(tmp_path, labels)
    assert problem is None
    frames = int(seg.NumberOfFrames)
    length = (frames * rows * columns + 7) // 8
    assert length % 2 == 0
    assert len(seg.PixelData) == length
    assert found <= frames <= found + 15
    assert len(seg.PerFrameFunctionalGroupsSequence) == frames
    # As few as do it.
    assert all(needs_pad(number, rows * columns) for number in range(found, frames))
    pixels = seg.pixel_array.reshape(frames, rows, columns)
    assert pixels.sum() == np.count_nonzero(labels)
    positions = {
        tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert len(positions) == frames


@pytest.mark.parametrize(("rows", "columns"), [(11, 9), (13, 15), (7, 7), (17, 17)])
def test_a_bit_behind_the_last_frame_is_found(tmp_path: Path, rows: int, columns: int) -> None:
    labels = labels_in((20, rows, columns), slice(2, 4))
    seg, problem = encoded(tmp_path, labels)
    assert problem is None
    bits = int(seg.NumberOfFrames) * rows * columns
    assert bits % 8  # else there is none behind it
    pixels = bytearray(seg.PixelData)
    pixels[bits // 8] |= 0x80
    seg.PixelData = bytes(pixels)
    seg.save_as(tmp_path / "seg.dcm")
    files = sorted((tmp_path / "series").rglob("*.dcm"))
    analysis = analysis_of(files, labels, three_segments())
    problem = check_segmentation(tmp_path / "seg.dcm", analysis, PLAIN)
    assert "behind the last frame" in (problem or "")


def test_the_further_plane_lies_beside_the_segment(tmp_path: Path) -> None:
    labels = labels_in((9, 12, 10), slice(4, 5), number=1)
    labels[6:8] = 3
    seg, problem = encoded(tmp_path, labels)
    assert problem is None
    found = [
        (
            int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            int(frame.FrameContentSequence[0].DimensionIndexValues[1]),
        )
        for frame in seg.PerFrameFunctionalGroupsSequence
    ]
    # Planes 3 (empty), 4, 6, 7 are numbered 1 to 4.
    assert found == [(1, 1), (1, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize("form", [PLAIN, form_of("keep_empty_frames")])
def test_without_a_further_plane_the_pad_byte_stays(tmp_path: Path, form: Form) -> None:
    """A segment in every plane, or all empty planes written already: nothing is left to add."""
    planes = slice(None) if form == PLAIN else slice(1, 2)
    labels = labels_in((3, 12, 10), planes)  # 45 bytes
    seg, problem = encoded(tmp_path, labels, form)
    assert problem is None
    assert int(seg.NumberOfFrames) == 3
    assert len(seg.PixelData) == 46
    assert seg.PixelData[-1:] == b"\0"
    assert seg.pixel_array.sum() == np.count_nonzero(labels)


def test_frames_without_voxels_that_help_nobody_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "services.reporting.kinds.segmentation.writing.further_frames", lambda *_: [(1, 0)]
    )
    labels = labels_in((9, 12, 10), slice(2, 4))  # 30 bytes: none is needed
    _, problem = encoded(tmp_path, labels)
    assert problem == "there are frames without a voxel"


@given(frames=st.integers(1, 60), voxels=st.integers(1, 70_000), slices=st.integers(1, 80))
def test_as_few_frames_as_save_the_pad_byte_are_added(
    frames: int, voxels: int, slices: int
) -> None:
    present = [(1, k) for k in range(min(frames, slices))]
    further = further_frames(present, slices, voxels)
    assert not set(further) & set(present)
    assert len(further) <= 15
    assert all(0 <= k < slices for _, k in further)
    if not needs_pad(len(present), voxels):
        assert further == []
    elif slices - len(present) >= 15:
        assert not needs_pad(len(present) + len(further), voxels)


def test_packed_bits_are_those_of_numpy() -> None:
    labels = np.random.default_rng(1).integers(0, 3, (5, 3, 7), np.uint8)
    frames = [(1, 0), (2, 0), (1, 4), (2, 3)]
    bits = np.concatenate([(labels[k] == number).ravel() for number, k in frames])
    data = packed(labels, frames)
    assert data == np.packbits(bits, bitorder="little").tobytes() + b"\0"
