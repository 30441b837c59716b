"""Whether the database answers, as readiness probes ask."""

from __future__ import annotations

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from services.common.telemetry import get_logger


def database_problems(engine: Engine) -> list[str]:
    """What keeps the database from being read, in sentences; empty when nothing does.

    A table is read: SQLite answers a question that needs none without its file.
    """
    try:
        with engine.connect().execution_options(axial_readonly=True) as connection:
            connection.execute(text("SELECT version_num FROM alembic_version")).all()
    except SQLAlchemyError as error:
        get_logger("common").warning("database_unavailable", kind=type(error).__name__)
        return ["The database does not answer."]
    return []
