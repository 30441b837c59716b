"""A file of the spool holds its data set, however it came and however the disk takes it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.listener.door import spool as spool_module
from services.listener.door.part10 import META_BYTES, FileMeta, digest_text, read_sealed
from services.listener.door.spool import Spool

META = FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "CT1")
CONTENT = os.urandom(400_000)
# Around the sizes at which the writer does something else, and the PDUs of common senders.
LENGTHS = st.one_of(
    st.integers(0, 200),
    st.integers(61_000, 66_000),
    st.sampled_from([4_096, 16_372, 65_536, 131_060, 131_066]),
)


class _Sparing:
    """The system's calls, of which those that write take at most so much at a time."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwritev(self, descriptor: int, parts: Any, at: int) -> int:
        return os.pwrite(descriptor, b"".join(parts)[: self._most], at)

    def pwrite(self, descriptor: int, data: bytes, at: int) -> int:
        return os.pwrite(descriptor, data[: self._most], at)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Generator[Spool]:
    opened = Spool(tmp_path_factory.mktemp("spool"))
    yield opened
    opened.close()


@given(lengths=st.lists(LENGTHS, max_size=8), most=st.sampled_from([4_099, 70_000, 1 << 20]))
def test_what_is_written_is_what_came(spool: Spool, lengths: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "os", _Sparing(most))
        writer = spool.begin()
        came = 0
        for length in lengths:
            writer.write(memoryview(CONTENT)[came : came + length])
            came = min(came + length, len(CONTENT))
            assert writer.data_bytes == came
        for asked in (0, 100, 65_536, came, came + 1):
            assert writer.read(asked) == CONTENT[: min(asked, came)]
        file = writer.commit(META)
    path = Path(file.path)
    assert path.read_bytes()[META_BYTES:] == CONTENT[:came]
    assert file.data_digest == digest_text(zlib.crc32(CONTENT[:came]), came)
    sealed = read_sealed(path)
    assert (sealed.meta, sealed.data_digest) == (META, file.data_digest)
    path.unlink()
