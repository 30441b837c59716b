"""Any order of arrivals, repetitions, freezing and restarts loses nothing and doubles nothing."""

from __future__ import annotations

import datetime as dt
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from services.common.database import (
    RevisionInstanceRow,
    RevisionRow,
    StudyRow,
    migrate,
    open_database,
)
from services.common.store import StudyStore
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.revisions import Trigger
from services.listener.door.statuses import StoreStatus
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.recovery import recover_spool
from tests.builders.reception import OfferedInstance, offer, opened_reception
from tests.builders.series import sound_series

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)

# A number is the arrival of that instance; the rest are events.
actions = st.lists(
    st.one_of(st.integers(0, 6), st.sampled_from(["freeze", "restart"])), max_size=25
)


@cache
def offers() -> list[OfferedInstance]:
    with tempfile.TemporaryDirectory() as folder:
        return [offer(file) for file in sound_series(Path(folder))]


@settings(max_examples=25)
@given(actions)
def test_every_acknowledged_instance_is_in_the_newest_revision_exactly_once(
    history: list[int | str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/axial.sqlite")
        migrate(engine)
        store = StudyStore(Path(folder) / "store")
        studies: list[str] = []
        announced: list[int] = []
        assembly = Assembly(engine, lambda _, number: announced.append(number), lambda: NOON)
        acknowledged: set[str] = set()
        frozen: list[set[str]] = []  # what each revision has to hold
        for action in history:
            if isinstance(action, int):
                with opened_reception(engine, store, Path(folder), studies.append) as reception:
                    assert reception.receive(offers()[action]) is StoreStatus.SUCCESS
                acknowledged.add(offers()[action].sop_instance_uid)
            elif action == "restart":
                quarantine = Quarantine(Path(folder) / "quarantine")
                found = recover_spool(Path(folder) / "spool", quarantine, lambda _: None)
                assert (found.offered, found.quarantined) == (0, 0)
            elif studies:
                assembly.freeze(studies[0], Trigger.TOLD)
                if not frozen or frozen[-1] != acknowledged:
                    frozen.append(set(acknowledged))

        with engine.connect() as connection:
            members: dict[int, set[str]] = {}
            for number, uid in connection.execute(
                select(RevisionInstanceRow.number, RevisionInstanceRow.sop_instance_uid)
            ):
                members.setdefault(number, set()).add(uid)
            held = connection.execute(select(RevisionRow.number, RevisionRow.instances))
            counts = dict(held.all())
            waiting = connection.execute(select(StudyRow.unfrozen_instances)).scalar() or 0
        engine.dispose()
    assert [members[number] for number in sorted(members)] == frozen
    assert announced == sorted(members) == list(range(1, len(frozen) + 1))
    assert counts == {number: len(uids) for number, uids in members.items()}
    assert waiting == len(acknowledged - (frozen[-1] if frozen else set()))
