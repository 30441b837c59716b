"""Opening the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from services.common.errors import AxialError


class DatabaseError(AxialError):
    """The database's URL is of no kind that Axial knows, or its schema is newer than the code."""


def open_database(url: str) -> Engine:
    """An engine with the durability that the promises need.

    SQLite: write-ahead log, ``synchronous=FULL`` (a commit is on disk when it returns), a busy
    timeout, and ``BEGIN IMMEDIATE`` so that a writer waits at its start instead of failing in its
    middle. PostgreSQL: its defaults; dead connections are noticed before use.

    Args:
        url: of the database, as SQLAlchemy reads it.

    Raises:
        DatabaseError: the URL names neither SQLite nor PostgreSQL.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return create_engine(
            parsed, pool_pre_ping=True, pool_size=4, max_overflow=8, hide_parameters=True
        )
    if backend != "sqlite":
        raise DatabaseError(f"Database '{backend}' is not known; use sqlite or postgresql.")
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        readonly = connection.get_execution_options().get("axial_readonly", False)
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

    return engine
