"""However many instances come at once, the database is asked in few different ways."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from services.common.headers import read_registration
from services.common.identity import derived_uid
from services.listener.registering.registry import (
    Novelty,
    ReceivedInstance,
    mark_in_store,
    register_instances,
)
from tests.builders.series import sound_series

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def statements(engine: Engine) -> Iterator[set[str]]:
    """The different statements that were executed."""
    seen: set[str] = set()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.add(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_batches_of_every_size_are_few_statements(
    engine: Engine, statements: set[str], tmp_path: Path
) -> None:
    registration = read_registration(sound_series(tmp_path / "dicom")[0].read_bytes())

    def received(size: int, number: int) -> ReceivedInstance:
        uid = derived_uid("statements", size, number)
        header = replace(registration.header, sop_instance_uid=uid)
        return ReceivedInstance(replace(registration, header=header), uid, 1, uid, AT, "MR1")

    for size in range(1, 101):
        batch = [received(size, number) for number in range(size)]
        assert set(register_instances(engine, batch, "tested")) == {Novelty.STORED}
        mark_in_store(engine, [one.store_key for one in batch])
        assert set(register_instances(engine, batch[::2], "tested")) == {Novelty.REPEATED}
    # What the drivers keep for a statement would else grow with the sizes of batches.
    assert len(statements) < 60
