"""Endings of series are written down however they come, and nobody waits for one in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.database import migrate, open_database
from services.listener.assembling.endings import Endings
from services.listener.assembling.under_way import Ending


@pytest.mark.parametrize("again", list(Ending))
def test_an_ending_noted_while_one_is_written_is_written_too(tmp_path: Path, again: Ending) -> None:
    """Two associations bring one series and end within milliseconds of each other."""
    engine = open_database(f"sqlite:///{tmp_path / 'axial.sqlite'}")
    migrate(engine)
    asked: list[float] = []

    def registered(seconds: float) -> bool:
        asked.append(seconds)
        if len(asked) == 1:  # what is to be written has been looked at, and is not written yet
            endings.note("1.2", again)
        return True

    with Endings(engine, "listener", registered) as endings:
        endings.note("1.2", Ending.WHOLE)
        assert endings.flush(10.0)
        assert len(asked) == 2
    engine.dispose()
