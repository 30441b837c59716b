"""Whatever a private header holds, it is read or refused; nothing else happens."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pydicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import format_number_as_ds

from services.common.fates import Refusal
from services.imaging import open_images
from services.imaging.csa import CSAError, read_csa
from tests.builders import broken_series
from tests.builders.enhanced import enhanced_of
from tests.builders.series import headers_of, sound_series
from tests.unit.imaging.test_csa import SOUND, element, header

TEXTS = st.text(st.characters(codec="latin-1"), max_size=12)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_no_csa_header(content: bytes) -> None:
    with contextlib.suppress(CSAError):
        read_csa(b"SV10" + content)


@given(st.integers(0, len(SOUND) - 1), st.integers(0, 255))
def test_any_byte_of_a_csa_header_may_be_wrong(place: int, value: int) -> None:
    damaged = bytearray(SOUND)
    damaged[place] = value
    with contextlib.suppress(CSAError):
        read_csa(bytes(damaged))


@given(
    slices=st.lists(TEXTS | st.integers(-2, 10**10).map(str), max_size=2),
    normal=st.lists(TEXTS | st.floats().map(str), max_size=4),
    spacing=st.none() | st.sampled_from(["0", "-1", "2.5", "1e308", "3"]),
    rows=st.integers(0, 65535),
)
def test_any_mosaic_is_opened_or_refused(
    slices: list[str], normal: list[str], spacing: str | None, rows: int
) -> None:
    csa = header(element("NumberOfImagesInMosaic", slices), element("SliceNormalVector", normal))
    with tempfile.TemporaryDirectory() as folder:
        (file,) = broken_series.mosaic(Path(folder))
        data: Any = pydicom.dcmread(file)
        block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", csa + b"\0" * (len(csa) % 2))
        data.Rows, data.SpacingBetweenSlices = rows, spacing
        data.save_as(file)
        answer = open_images(headers_of([file]), lambda image: file)
    assert isinstance(answer, tuple) or answer.reason == "mosaic"


@given(
    count=TEXTS | st.integers(-2, 10**10).map(str),
    positions=st.lists(st.lists(st.floats(-1e6, 1e6), max_size=4), max_size=12),
    rows=st.integers(0, 65535),
    columns=st.integers(0, 65535),
)
def test_any_vframe_is_opened_or_refused(
    count: str, positions: list[list[float]], rows: int, columns: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (file,) = broken_series.mosaic(Path(folder))
        data: Any = pydicom.dcmread(file)
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
        block = data.private_block(0x0065, "Image Private Header", create=True)
        block.add_new(0x50, "LO", count)
        items: list[pydicom.Dataset] = []
        for position in positions:
            item = pydicom.Dataset()
            item.ImagePositionPatient = [format_number_as_ds(x) for x in position]
            items.append(item)
        block.add_new(0x51, "SQ", items)
        data.Rows, data.Columns = rows, columns
        data.save_as(file)
        answer = open_images(headers_of([file]), lambda image: file)
    assert isinstance(answer, tuple) or answer.reason == "mosaic"


@given(
    frames=st.integers(0, 2**31 - 1) | st.just(7),
    left_out=st.sets(
        st.sampled_from(
            ["PlanePositionSequence", "FrameContentSequence", "PixelValueTransformationSequence"]
        )
    ),
    group=st.integers(0, 6),
)
def test_any_enhanced_object_is_opened_or_refused(
    frames: int, left_out: set[str], group: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = enhanced_of(sound_series(Path(folder)), Path(folder) / "enhanced.dcm")
        data: Any = pydicom.dcmread(file)
        data.NumberOfFrames = frames
        for keyword in left_out:
            delattr(data.PerFrameFunctionalGroupsSequence[group], keyword)
        data.save_as(file)
        answer = open_images(headers_of([file]), lambda image: file)
    if frames in (0, 7):  # none told counts as one, which seven groups are not
        assert isinstance(answer, tuple) == (frames == 7)
    else:
        assert isinstance(answer, Refusal)
