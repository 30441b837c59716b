"""TensorFlow 1 checkpoints: what was saved comes back, and damage is named."""

from __future__ import annotations

import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from models.building.errors import WeightsError
from models.building.weights import read_tensorflow_checkpoint
from models.building.weights.crc32c import masked_crc32c
from tests.builders.tensorflow_checkpoint import table, varint, write_checkpoint

VARIABLES = {
    "Net/block1/w": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 2, 2),
    "Net/block1/alpha": np.array([0.25, -1], np.float32),
    "Net/block2/w": np.full((3, 1), 7, np.float64),
    "step": np.array(20000, np.int64),
}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model.ckpt", VARIABLES)


def test_every_variable_comes_back_as_it_was_saved(index: Path) -> None:
    found = read_tensorflow_checkpoint(index)
    assert found.keys() == VARIABLES.keys()
    for name, values in VARIABLES.items():
        assert found[name].numpy().dtype == values.dtype
        assert np.array_equal(found[name].numpy(), values)


def test_the_checksum_is_the_standards() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, 32 of ones; masked as LevelDB has it.
    for content, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        assert masked_crc32c(content) == (rotated + 0xA282EAD8) & 0xFFFFFFFF
        assert masked_crc32c(content) != zlib.crc32(content)


def test_a_damaged_array_is_named(index: Path) -> None:
    data = index.with_suffix(".data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[-1] ^= 0x40
    data.write_bytes(content)
    with pytest.raises(WeightsError, match="the variable step is damaged"):
        read_tensorflow_checkpoint(index)


def test_a_data_file_that_ends_early_is_named(index: Path) -> None:
    data = index.with_suffix(".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"ends before the variable step"):
        read_tensorflow_checkpoint(index)


def test_a_missing_data_file_is_named(index: Path) -> None:
    index.with_suffix(".data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"model\.data-00000-of-00001 is missing"):
        read_tensorflow_checkpoint(index)


@hypothesis.given(place=strategies.integers(0, 10_000), flip=strategies.integers(1, 255))
def test_any_damage_of_the_index_is_an_error_or_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    index = write_checkpoint(tmp_path_factory.mktemp("damaged") / "m.ckpt", VARIABLES)
    content = bytearray(index.read_bytes())
    content[place % len(content)] ^= flip
    index.write_bytes(content)
    try:
        found = read_tensorflow_checkpoint(index)
    except WeightsError:
        return
    # The footer's padding and the handle of the meta blocks are of no importance.
    assert all(np.array_equal(found[name].numpy(), one) for name, one in VARIABLES.items())


def test_a_compressed_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(table([[(b"", b"\x08\x01")]], kind=1))
    with pytest.raises(WeightsError, match="compressed"):
        read_tensorflow_checkpoint(tmp_path / "m.index")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b"\x08\x13" + b"\x28\x02", "of type 19"),
        (b"\x08\x01" + b"\x12\x04\x12\x02\x08\x05" + b"\x28\x08", r"8 bytes and the shape \[5\]"),
        (b"\x08\x01" + b"\x28\x04" + b"\x18\x03", "lies in file 3 of 1"),
        (b"\x08\x01" + b"\x28\x04" + b"\x3a\x00", "slices"),
        (b"\x08\x01" + b"\x12\x7f", "longer than its message"),
        (b"\xff" * 10, "longer than 64 bits"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tmp_path: Path, entry: bytes, reason: str) -> None:
    (tmp_path / "m.index").write_bytes(table([[(b"", b"\x08\x01"), (b"w", entry)]]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(16))
    with pytest.raises(WeightsError, match=reason):
        read_tensorflow_checkpoint(tmp_path / "m.index")


def test_another_file_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(varint(300) * 40)
    with pytest.raises(WeightsError, match="no index of a TensorFlow checkpoint"):
        read_tensorflow_checkpoint(tmp_path / "m.index")
