"""Reception and assembly of one study, for tests on both databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.common.store import StudyStore
from tests.builders.assembling import Front
from tests.integration.listener.conftest import Receiving

MakeFront = Callable[..., Front]


@pytest.fixture
def make_front(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> MakeFront:
    """Makes a front that receives certain files: ``make_front(files)``."""
    return partial(Front, engine, store, tmp_path, receiving)


@pytest.fixture
def front(make_front: MakeFront) -> Front:
    """A front that receives a sound series."""
    return make_front()
