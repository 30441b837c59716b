"""Readiness asks what a service truly depends on: without its database none is ready."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from services.common.database import database_problems, migrate, open_database
from services.common.settings import Settings
from services.orchestrator.service import Orchestrator
from services.reporting.service import Reporting
from tests.builders.network import free_port


def _nothing_wrong(**answers: Any) -> Any:
    """A part that works."""
    return cast(
        Any, SimpleNamespace(**{name: (lambda v=value: v) for name, value in answers.items()})
    )


@pytest.fixture(params=["sqlite without tables", "postgresql that is away"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param.startswith("sqlite"):
        return open_database(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    return open_database(f"postgresql+psycopg://axial@127.0.0.1:{free_port()}/axial")


def _services(engine: Engine) -> dict[str, Any]:
    inference = _nothing_wrong(problem=None, troubles={})
    watch = _nothing_wrong(problems=[], remarks=[], alive=True)
    alive = _nothing_wrong(alive=True)
    settings = Settings.model_validate({"reporting": {"check_with_dciodvfy": False}})
    return {
        "orchestrator": Orchestrator(engine, inference, watch, alive, alive),
        "reporting": Reporting(settings, _nothing_wrong(problems=[]), engine),
    }


@pytest.mark.parametrize("name", ["orchestrator", "reporting"])
def test_without_a_database_it_is_not_ready(name: str, away: Engine) -> None:
    problems = _services(away)[name].problems()
    assert len(problems) == 1
    assert problems[0].startswith("The database does not answer")


@pytest.mark.parametrize("name", ["orchestrator", "reporting"])
def test_with_it_and_all_else_it_is_ready(name: str, database_url: str) -> None:
    engine = open_database(database_url)
    migrate(engine)
    assert database_problems(engine) == []
    assert _services(engine)[name].problems() == []
    engine.dispose()
