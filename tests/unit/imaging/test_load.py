"""Every way in which pixels may be stored gives the same real-world values, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from services.common.fates import Refusal
from services.common.headers import HeaderError
from services.common.store import StudyStore, instance_key
from services.imaging import (
    GeometryLimits,
    ImagingError,
    Rescale,
    SeriesGeometry,
    Volume,
    examine_series,
    load_volume,
    read_series,
    read_volume,
)
from services.imaging.header_files import read_headers
from tests.builders.series import (
    as_sent,
    edit,
    headers_of,
    small_volume,
    sound_series,
    stored,
)


def load(files: list[Path], root: Path) -> Volume | Refusal:
    store = StudyStore(root / "store")
    headers = stored(store, files)
    geometry = examine_series(headers, GeometryLimits("a model"))
    assert isinstance(geometry, SeriesGeometry), geometry
    return load_volume(geometry, headers, store)


def loaded(files: list[Path], root: Path) -> Volume:
    volume = load(files, root)
    assert isinstance(volume, Volume), volume
    return volume


def rewrite(file: Path, change: Callable[[Any], None]) -> Path:
    data = pydicom.dcmread(file)
    change(data)
    data.save_as(file)
    return file


def test_volume_has_the_written_voxels_in_slice_order(tmp_path: Path) -> None:
    written = small_volume()
    volume = loaded(sound_series(tmp_path / "dicom", written), tmp_path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.values(), written.array)
    assert volume.affine == pytest.approx(written.affine)


@pytest.mark.parametrize(
    "syntax",
    [JPEG2000Lossless, JPEGLSLossless, RLELossless],
    ids=lambda uid: uid.keyword,
)
def test_compressed_series_equals_the_uncompressed(syntax: str, tmp_path: Path) -> None:
    written = small_volume((3, 70, 64))
    files = sound_series(tmp_path / "dicom", written)
    for file in files:
        rewrite(file, lambda data: data.compress(syntax, generate_instance_uid=False))
    assert np.array_equal(loaded(files, tmp_path).array, written.array)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL], ids=lambda uid: uid.keyword)
def test_high_throughput_jpeg_2000_equals_the_uncompressed(syntax: UID, tmp_path: Path) -> None:
    written = small_volume((3, 70, 64))
    files = sound_series(tmp_path / "dicom", written)

    def compress(data: Dataset) -> None:
        code_stream = imagecodecs.htj2k_encode(data.pixel_array, reversible=True)
        data.PixelData = encapsulate([bytes(code_stream)])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax

    for file in files:
        rewrite(file, compress)
    assert np.array_equal(loaded(files, tmp_path).array, written.array)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.keyword,
)
def test_every_uncompressed_encoding_gives_the_same_voxels(syntax: Any, tmp_path: Path) -> None:
    written = small_volume()
    files = sound_series(tmp_path / "dicom", written)
    for file in files:
        save_encoded(file, syntax)
    assert np.array_equal(loaded(files, tmp_path).array, written.array)


def save_encoded(file: Path, syntax: Any) -> None:
    """Writes a file anew in another native encoding."""
    data = Dataset()
    data.update({element.tag: element for element in pydicom.dcmread(file)})
    data.file_meta = pydicom.dcmread(file).file_meta
    data.file_meta.TransferSyntaxUID = syntax
    data.preamble = bytes(128)
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.save_as(
        file,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=True,
    )


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda uid: uid.keyword,
)
def test_values_in_the_highest_bits_are_the_same_in_every_encoding(
    syntax: Any, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    values = np.random.default_rng(5).integers(-2048, 2048, (12, 10))

    def in_the_highest_bits(data: Any) -> None:
        data.PixelData = ((values & 0x0FFF) << 4).astype("<u2").tobytes()
        data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, 1
        if syntax == RLELossless:
            data.compress(RLELossless, generate_instance_uid=False)
        data.BitsStored = 12

    for file in files:
        rewrite(file, in_the_highest_bits)
        if syntax != RLELossless:
            save_encoded(file, syntax)
    assert np.array_equal(loaded(files, tmp_path).array[3], values)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    written = small_volume()
    files = sound_series(tmp_path / "dicom", written)
    for n, file in enumerate(files):
        edit(file, RescaleSlope=f"{0.1 * (n + 1):.1f}", RescaleIntercept=-n, RescaleType="US")
    volume = loaded(files, tmp_path)
    for n, plane in enumerate(volume.values()):
        slope = float(f"{0.1 * (n + 1):.1f}")
        expected = written.array[n].astype(np.float64) * slope - n
        assert np.array_equal(plane, expected.astype(np.float32))


def test_signed_values_of_twelve_bits_keep_their_sign_beside_foreign_bits(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    values = np.random.default_rng(5).integers(-2048, 2048, (12, 10))

    def as_signed(data: Any) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 1
        # An overlay of former days in the upper four bits must not matter.
        foreign = np.where(np.indices((12, 10)).sum(axis=0) % 2, 0xA000, 0x5000)
        data.PixelData = ((values & 0x0FFF) | foreign).astype("<u2").tobytes()

    for file in files:
        rewrite(file, as_signed)
    assert np.array_equal(loaded(files, tmp_path).array[3], values)


def test_eight_bit_images_are_read(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    values = np.arange(120, dtype=np.uint8).reshape(12, 10) * 2

    def as_bytes(data: Any) -> None:
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit = 7
        data.PixelData = values.tobytes()
        data["PixelData"].VR = "OB"

    for file in files:
        rewrite(file, as_bytes)
    assert np.array_equal(loaded(files, tmp_path).array[0], values)


def test_monochrome1_is_passed_as_stored(tmp_path: Path) -> None:
    written = small_volume()
    files = sound_series(tmp_path / "dicom", written)
    for file in files:
        edit(file, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(loaded(files, tmp_path).array, written.array)


def test_a_file_gone_from_the_store_is_source_missing(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    headers = stored(store, sound_series(tmp_path / "dicom"))
    geometry = examine_series(headers, GeometryLimits("a model"))
    assert isinstance(geometry, SeriesGeometry)
    lost = headers[2]
    store.path(instance_key(lost.study_uid, lost.series_uid, lost.sop_instance_uid)).unlink()
    refusal = load_volume(geometry, headers, store)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.values["instance_uid"]) == (
        "source_missing",
        lost.sop_instance_uid,
    )


def test_a_file_that_the_disk_does_not_give_is_told_without_its_path(tmp_path: Path) -> None:
    headers = headers_of(sound_series(tmp_path / "dicom"))
    geometry = examine_series(headers, GeometryLimits("a model"))
    assert isinstance(geometry, SeriesGeometry)
    refusal = read_volume(geometry, headers, lambda header: tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"
    assert refusal.values["problem"] == "Is a directory"


@pytest.mark.parametrize("compressed", [False, True], ids=["native", "compressed"])
def test_a_cut_off_file_is_pixels_unreadable_never_zeros(compressed: bool, tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    if compressed:
        for file in files:
            rewrite(file, lambda data: data.compress(RLELossless, generate_instance_uid=False))
    store = StudyStore(tmp_path / "store")
    headers = stored(store, files)
    geometry = examine_series(headers, GeometryLimits("a model"))
    assert isinstance(geometry, SeriesGeometry)
    cut = headers[4]
    path = store.path(instance_key(cut.study_uid, cut.series_uid, cut.sop_instance_uid))
    path.write_bytes(path.read_bytes()[:-100])
    refusal = load_volume(geometry, headers, store)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"
    assert refusal.values["instance_uid"] == cut.sop_instance_uid


def test_too_few_pixel_bytes_are_pixels_unreadable(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    edit(files[1], PixelData=bytes(100))
    refusal = load(files, tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.values["problem"] == "it has 100 bytes of pixel data instead of 240"


def test_a_matrix_larger_than_its_pixel_bytes_allocates_no_memory(tmp_path: Path) -> None:
    files = [edit(f, Rows=65535, Columns=65535) for f in sound_series(tmp_path / "dicom")]
    refusal = load(files, tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.values["problem"] == "it has 240 bytes of pixel data instead of 8589672450"


def test_a_compressed_matrix_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    for file in files:
        rewrite(file, lambda data: data.compress(RLELossless, generate_instance_uid=False))
        as_sent(file, 0x00280010, "LO", b"9e12")
        as_sent(file, 0x00280011, "LO", b"9e12")
    refusal = load(files, tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"
    assert str(refusal.values["problem"]).endswith("voxels do not fit into memory")


@pytest.mark.parametrize("value", [b"nan ", b"inf ", b"abc ", b"12.5"])
@pytest.mark.parametrize("tag", [0x00280100, 0x00280101, 0x00280103])
def test_a_description_of_pixels_that_is_no_number_is_refused(
    tag: int, value: bytes, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    as_sent(files[2], tag, "LO", value)
    refusal = read_series(files)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"


def test_a_rescale_slope_of_zero_is_refused_never_a_volume_of_zeros(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    edit(files[1], RescaleSlope=0, RescaleIntercept=0)
    refusal = load(files, tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"


def test_geometry_of_another_series_is_the_callers_mistake(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    headers = stored(store, sound_series(tmp_path / "dicom"))
    geometry = examine_series(headers, GeometryLimits("a model"))
    assert isinstance(geometry, SeriesGeometry)
    with pytest.raises(ImagingError):
        load_volume(geometry, headers[1:], store)


def test_unsigned_values_beyond_int16_keep_their_value(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    values = np.random.default_rng(9).integers(0, 65536, (len(files), 12, 10))
    values[0] %= 4096  # one slice would fit
    for file, plane in zip(files, values, strict=True):
        pixels = plane.astype("<u2").tobytes()
        edit(file, BitsStored=16, HighBit=15, PixelRepresentation=0, PixelData=pixels)
        edit(file, RescaleSlope=2, RescaleIntercept=-1)
    volume = loaded(files, tmp_path)
    assert volume.array.dtype == np.uint16
    assert np.array_equal(volume.values(), (values * 2 - 1).astype(np.float32))


def test_values_beyond_int16_of_planes_of_which_one_is_signed_become_real_values(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    values = np.full((len(files), 12, 10), 60000)
    values[0] = -3
    for file, plane in zip(files, values, strict=True):
        signed = int(plane.min() < 0)
        pixels = plane.astype("<i2" if signed else "<u2").tobytes()
        edit(file, BitsStored=16, HighBit=15, PixelRepresentation=signed, PixelData=pixels)
    volume = loaded(files, tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(np.sort(volume.values(), axis=0), np.sort(values, axis=0))


def test_unsigned_values_of_sixteen_bits_that_fit_stay_int16(tmp_path: Path) -> None:
    files = [edit(file, BitsStored=16, HighBit=15) for file in sound_series(tmp_path / "dicom")]
    assert loaded(files, tmp_path).array.dtype == np.int16


def test_values_are_written_where_they_are_wanted_without_a_copy(tmp_path: Path) -> None:
    files = [edit(f, RescaleSlope=0.1, RescaleIntercept=3) for f in sound_series(tmp_path / "a")]
    volume = loaded(files, tmp_path)
    out = np.empty(volume.array.shape, np.float32)
    volume.write_values(out)
    assert np.array_equal(out, volume.values())
    assert np.array_equal(out, (volume.array * 0.1 + 3).astype(np.float32))


def test_values_that_are_no_stored_ones_are_not_rescaled() -> None:
    with pytest.raises(ImagingError):
        Volume(np.zeros((2, 2, 2), np.float32), np.eye(4), rescale=Rescale(2.0, 0.0))


def test_files_of_two_series_are_the_callers_mistake(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "one") + sound_series(tmp_path / "two", seed="two")
    with pytest.raises(ImagingError):
        read_series(files)


def test_a_file_that_is_no_dicom_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "licence.txt"
    file.write_text("Permission is hereby granted")
    with pytest.raises(HeaderError):
        read_series([file])


def test_headers_that_the_scanner_leaves_to_the_library_are_read_all_the_same(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path)
    long_head, escapes = files[1], files[2]
    data = pydicom.dcmread(long_head)
    data.add_new(0x00204000, "LT", "x" * 9000)  # longer than the first bytes that are read
    data.save_as(long_head)
    edit(escapes, SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="T1")
    rewrite(files[3], lambda data: data.compress(RLELossless, generate_instance_uid=False))
    assert read_headers(files) == headers_of(files)
