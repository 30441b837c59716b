"""A listener to send to: real doors, real database, real store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.common.database import migrate, open_database
from services.common.service import ServiceContext
from services.common.settings import ListenerSettings, OrchestratorSettings, RpcSettings, Settings
from services.common.store import StudyStore
from services.listener.service import Listener, open_listener
from tests.builders.reception import Reception, opened_reception
from tests.builders.series import sound_series
from tests.builders.trust import CERTIFICATES, credentials

OpenListener = Callable[..., AbstractContextManager[Listener]]
Receiving = Callable[..., Reception]


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    """An empty study store."""
    return StudyStore(tmp_path / "store")


@pytest.fixture
def engine(database_url: str) -> Generator[Engine]:
    """A migrated database; the test runs on SQLite and on PostgreSQL."""
    opened = open_database(database_url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def lite_engine(sqlite_url: str) -> Generator[Engine]:
    """A migrated SQLite database, for tests in which the engine makes no difference."""
    opened = open_database(sqlite_url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def sound_files(tmp_path: Path) -> list[Path]:
    """The files of a sound series."""
    return sound_series(tmp_path / "dicom")


@pytest.fixture
def receiving(tmp_path: Path) -> Generator[Callable[..., Reception]]:
    """Opens receptions: ``receiving(engine, store, stored.append)``; closed after the test."""
    with ExitStack() as opened:
        count = itertools.count()

        def reception(engine: Engine, store: StudyStore, *rest: Any, **named: Any) -> Reception:
            folder = tmp_path / f"front-{next(count)}"
            return opened.enter_context(opened_reception(engine, store, folder, *rest, **named))

        yield reception


@pytest.fixture
def lite_reception(lite_engine: Engine, store: StudyStore, receiving: Receiving) -> Reception:
    """A reception on SQLite; closed after the test."""
    return receiving(lite_engine, store)


@pytest.fixture
def open_front_door(tmp_path: Path, lite_engine: Engine, store: StudyStore) -> OpenListener:
    """Opens a whole listener: ``with open_front_door(quiet_period_s=0.1) as listener:``."""

    @contextmanager
    def opened(*, orchestrator: str = "127.0.0.1:9", **listener: Any) -> Generator[Listener]:
        given: dict[str, Any] = {
            "port": 0,
            "intake_address": "127.0.0.1:0",
            "accept_unknown_peers": True,
            "quiet_period_s": 3600,
            "receivers": 1,
        }
        settings = Settings(
            data_dir=tmp_path,
            listener=ListenerSettings(**{**given, **listener}),
            orchestrator=OrchestratorSettings(address=orchestrator),
            rpc=RpcSettings(certificates=CERTIFICATES),
        )
        credentials("listener")  # made, where no test has asked for them yet
        context = ServiceContext("listener", settings, lite_engine, store)
        with open_listener(context) as running:
            yield running

    return opened
