"""Reception and assembly of one study on a clock that stands still until it is set."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from services.common.database import RevisionInstanceRow, RevisionRow, SeriesRow, StudyRow
from services.common.settings import ListenerSettings, Peer
from services.common.store import StudyStore
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.endings import broken_off, is_received_elsewhere, note_endings
from services.listener.assembling.under_way import SeriesUnderWay
from services.listener.peers.policies import QuietPeriods
from tests.builders.reception import LISTENER_ID, Reception, offer
from tests.builders.series import sound_series

HOLD_S = 60.0
NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
SETTINGS = ListenerSettings(
    quiet_period_s=5.0,
    peers=(
        Peer(name="MR one", ae_title="MR1"),
        Peer(name="slow PACS", ae_title="SLOW", quiet_period_s=20),
        Peer(name="router", ae_title="HASTY", quiet_period_s=1),
    ),
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


class Front:
    """Reception and assembly; the deadlines' thread is not started.

    Args:
        receiving: opens a reception (the fixture of that name).
        files: the instances that are received, by their numbers; a sound series without them.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        folder: Path,
        receiving: Callable[..., Reception],
        files: Sequence[Path] | None = None,
    ) -> None:
        self.clock = Clock()
        self.engine = engine
        self.announced: list[tuple[str, int]] = []
        self.under_way = SeriesUnderWay(
            0.5,
            lambda _: None,
            lambda: self.clock.now.timestamp(),
            hold_s=HOLD_S,
            on_ending=lambda uid, ending: note_endings(engine, LISTENER_ID, {uid: ending}),
        )
        self.assembly = Assembly(
            engine,
            lambda uid, number: self.announced.append((uid, number)),
            self.clock,
            under_way=self.under_way,
            broken_off=partial(broken_off, engine, listener_id=LISTENER_ID),
            elsewhere=self._elsewhere(LISTENER_ID),
        )
        self.reception = receiving(
            engine, store, clock=self.clock, quiet_period_s=QuietPeriods(SETTINGS).of
        )
        self.offers = [offer(file) for file in files or sound_series(folder / "dicom")]
        self.study_uid = ""

    def _elsewhere(self, listener_id: str) -> Callable[[str, dt.datetime], bool]:
        named = {"listener_id": listener_id, "hold_s": HOLD_S}
        return partial(is_received_elsewhere, self.engine, **named)

    def other_listener(self) -> Assembly:
        """The assembly of another listener on the same database, which receives nothing."""
        return Assembly(
            self.engine,
            lambda uid, number: self.announced.append((uid, number)),
            self.clock,
            under_way=SeriesUnderWay(
                0.5, lambda _: None, lambda: self.clock.now.timestamp(), hold_s=HOLD_S
            ),
            broken_off=partial(broken_off, self.engine, listener_id="another"),
            elsewhere=self._elsewhere("another"),
        )

    def receive(self, *numbers: int, peer: str = "MR1") -> None:
        """Has instances received and registered."""
        for number in numbers:
            self.reception.receive(replace(self.offers[number], peer=peer))

    def bring(self, association: str, *numbers: int) -> None:
        """Has an association bring instances of the one study."""
        for number in numbers:
            self.receive(number)
            (self.study_uid,) = study_uids(self.engine)
            self.under_way.stored(association, self.study_uid, series_uid(self.engine))

    def look(self, engine: Engine) -> None:
        """What happens when the study's quiet period may be over."""
        (self.study_uid,) = study_uids(engine)
        self.assembly.examine(self.study_uid)

    def count(self) -> None:
        """What happens when instances were registered."""
        (self.study_uid,) = study_uids(self.engine)
        self.assembly.count(self.study_uid)


def study_uids(engine: Engine) -> list[str]:
    """All studies."""
    with engine.connect() as connection:
        return list(connection.execute(select(StudyRow.study_uid)).scalars())


def series_uid(engine: Engine) -> str:
    """The one series' UID."""
    with engine.connect() as connection:
        return connection.execute(select(SeriesRow.series_uid)).scalar_one()


def revisions(engine: Engine) -> list[Any]:
    """All revisions' rows."""
    with engine.connect() as connection:
        table = RevisionRow.__table__
        return list(connection.execute(select(table).order_by(table.c.number)).all())


def members(engine: Engine, number: int) -> set[str]:
    """The SOP instance UIDs of a revision of the one study."""
    with engine.connect() as connection:
        return set(
            connection.execute(
                select(RevisionInstanceRow.sop_instance_uid).where(
                    RevisionInstanceRow.number == number
                )
            ).scalars()
        )
