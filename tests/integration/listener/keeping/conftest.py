"""The present of retention's tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import time_machine

from tests.builders.retention import NOW


@pytest.fixture
def clock() -> Generator[time_machine.Traveller]:
    """The present, held still."""
    with time_machine.travel(NOW, tick=False) as held:
        yield held
