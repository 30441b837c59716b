"""Whatever the order of the same events, no image that was taken in is without a file.

Events are what happens to files in a spool: one is told of, a receiver died and its spool is gone
through, what waits is registered, it is placed, the store refuses, the process dies. Files are
counted by the hash of their pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from sqlalchemy import Engine, select

from services.common.database import InstanceRow, migrate, open_database
from services.common.store import StoreError, StudyStore
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import Spool, SpooledFile
from services.listener.keeping.shipping import Shipping
from services.listener.registering.arrivals import Offered
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.recovery import mark_what_reached_the_store, recover_spool
from services.listener.registering.registrar import Registrar
from tests.builders.by_pixels import Instance, Instances
from tests.builders.running_listener import ship_waiting

LISTENER = "tested"
# Two instances; the first comes twice, and once with other bytes under its UID.
TOLD = ("tell 0", "tell 1", "tell 0 again", "tell 0 with other pixels")
EVENTS = (*TOLD, "recover", "recover", "register", "register", "place", "refuse", "die", "ship")


@cache
def instances() -> Instances:
    with tempfile.TemporaryDirectory() as folder:
        return Instances(Path(folder))


@cache
def migrated_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/axial.sqlite")
        migrate(engine)
        engine.dispose()  # which writes its log into the file
        return Path(folder, "axial.sqlite").read_bytes()


class Front:
    """A registrar whose thread is the test: one event after the other."""

    def __init__(self, folder: Path, engine: Engine, *, ships: bool) -> None:
        self.store = StudyStore(folder / "store")
        self.spool = folder / "spool"
        self.outbox = folder / "outbox"
        self._folder = folder
        self._engine = engine
        self._ships = ships
        self._instances = instances()
        first, second = self._instances.another(), self._instances.another()
        other = self._instances.with_other_pixels(first)
        self._named = dict(zip(TOLD, (first, second, first, other), strict=True))
        self.acknowledged: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._told: list[Offered] = []
        self._shipping = (
            Shipping(self._engine, self.outbox, self.store, LISTENER, lambda _: None)
            if self._ships
            else None
        )
        self._registrar = Registrar(
            self._engine,
            self.store,
            Quarantine(self._folder / "quarantine"),
            LISTENER,
            lambda _: None,
            None if self._shipping is None else self._shipping.add,
            None if self._shipping is None else self.outbox,
            quiet_period_s=lambda _: 5.0,
        )

    def act(self, event: str) -> None:
        """Has one thing happen."""
        if event in self._named:
            self._registrar.offer(self._spooled(self._named[event]))
        elif event == "recover":
            quarantine = Quarantine(self._folder / "quarantine")
            recover_spool(self.spool, quarantine, self._registrar.offer)
        elif event == "refuse":
            self._refusing(self._turn)
        elif event == "die":
            self._start()
            if self._shipping is None:
                mark_what_reached_the_store(self._engine, self.store, LISTENER)
        elif event == "ship" and self._shipping is not None:
            ship_waiting(self._shipping)
        elif event == "register":
            self._registrar.register_waiting()
        elif event == "place":
            self._turn()

    def _turn(self) -> None:
        self._registrar.register_waiting()
        placing = self._registrar._placing  # pyright: ignore[reportPrivateUsage]
        placing.place()
        placing.compare()

    def _spooled(self, instance: Instance) -> Offered:
        spool = Spool(self.spool / "door-0")
        try:
            with spool.begin() as writer:
                writer.write(instance.data)
                uids = (MRImageStorage, instance.sop_instance_uid, ExplicitVRLittleEndian)
                file: SpooledFile = writer.commit(FileMeta(*uids, "MR1"))
        finally:
            spool.close()
        self.acknowledged.add(instance.pixels)
        return Offered(file, None, "MR1")

    def _refusing(self, act: Callable[[], object]) -> None:
        with pytest.MonkeyPatch.context() as patch:

            def refuse(*_: object, **__: object) -> None:
                raise StoreError("away", retryable=True)

            patch.setattr(StudyStore, "put_files", refuse)
            patch.setattr(StudyStore, "put", refuse)
            act()

    def assert_nothing_lost(self) -> None:
        """Every image that was acknowledged is a file, and rows say what is."""
        folders = (self.spool, self.outbox, self.store.root)
        assert self._instances.found_below(*folders) >= self.acknowledged
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(InstanceRow.store_key, InstanceRow.size_bytes).where(
                    InstanceRow.spooled_by.is_(None)
                )
            ).all()
        for key, size in rows:
            assert self.store.size(key) == size


@contextmanager
def front(*, ships: bool) -> Generator[Front]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "axial.sqlite").write_bytes(migrated_database())
        engine = open_database(f"sqlite:///{folder}/axial.sqlite")
        try:
            yield Front(Path(folder), engine, ships=ships)
        finally:
            engine.dispose()


@pytest.mark.parametrize("ships", [False, True])
@settings(max_examples=40, deadline=None)
@given(events=st.permutations(EVENTS))
def test_no_order_of_the_same_events_loses_an_image(ships: bool, events: Sequence[str]) -> None:
    with front(ships=ships) as opened:
        for event in (*events, "recover", "register", "place", "ship"):
            opened.act(event)
            opened.assert_nothing_lost()
        for folder in (opened.spool, opened.outbox):
            assert not list(folder.rglob("*.dcm"))
