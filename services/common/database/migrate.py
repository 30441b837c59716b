"""Bringing the database to the version that this code speaks.

Two versions run side by side during a rollout: the newer one has migrated the database, and pods
of the older one start all the same. So every migration says from which version on code may use
what it leaves behind (`USABLE_FROM`), and the database keeps it (table schema_version). Code that
meets a database newer than itself asks that table, not its own list of migrations.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, delete, insert, inspect, select, text

from services.common.database.engine import DatabaseError
from services.common.database.tables import SchemaVersionRow, utc_now
from services.common.telemetry import get_logger

_MIGRATIONS = Path(__file__).parent / "migrations"
# The key of the advisory lock under which services migrate one at a time.
_ADVISORY_LOCK = 0x41584941
# Migrations up to this one are older than the rule.
_LAST_THAT_SAYS_NOTHING = "0004"
_log = get_logger("common")


def migrate(engine: Engine) -> None:
    """Creates or upgrades the tables. Safe to call from several processes at once.

    Args:
        engine: the database; a database that a newer version migrated is left as it is.

    Raises:
        DatabaseError: the database is newer than this code, and says that this code must not
            use the database.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    head = scripts.get_current_head() or ""
    with _one_at_a_time(engine), engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
        if current == head:
            return
        if current is not None and current not in known:
            _accept_newer(connection, current, head)
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _write_down(connection, scripts, head)
        connection.commit()


def _accept_newer(connection: Connection, current: str, head: str) -> None:
    """Goes on with a database that newer code migrated, where it says that this code may."""
    usable_from = None
    if inspect(connection).has_table(SchemaVersionRow.__tablename__):
        # Written in the transaction of the migration: it is of the version that is there.
        usable_from = connection.scalar(select(SchemaVersionRow.usable_from))
    connection.rollback()
    if usable_from is not None and usable_from <= head:
        _log.warning("database_is_newer", database=current, code=head, usable_from=usable_from)
        return
    needed = f"from {usable_from} on" if usable_from else "of that version"
    raise DatabaseError(
        f"The database has version {current}; code {needed} can use it, and this code knows "
        f"{head}. Start the newer Axial, or restore the database from before its migration."
    )


def _write_down(connection: Connection, scripts: ScriptDirectory, head: str) -> None:
    """Keeps from which version on code may use the database as it is now.

    Versions are numbers of four digits, so that they compare as text; the highest of all
    migrations counts, because a later one changes nothing about what an earlier one took away.
    """
    usable_from = max(_usable_from(script) for script in scripts.walk_revisions())
    connection.execute(delete(SchemaVersionRow))
    connection.execute(
        insert(SchemaVersionRow).values(
            revision=head, usable_from=usable_from, migrated_at=utc_now()
        )
    )


def _usable_from(script: Script) -> str:
    """From which version on code may use what a migration leaves behind.

    Raises:
        DatabaseError: the migration does not say so; taken for harmless, one that takes a column
            away would let code in that reads it.
    """
    said = getattr(script.module, "USABLE_FROM", None)
    if said is None and script.revision <= _LAST_THAT_SAYS_NOTHING:
        return "0001"
    if not isinstance(said, str) or not "0001" <= said <= script.revision:
        raise DatabaseError(
            f"Migration {script.revision} does not say from which version on code may use what it "
            "leaves behind: set USABLE_FROM, to its own number or to an earlier one."
        )
    return said


@contextmanager
def _one_at_a_time(engine: Engine) -> Generator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            _advisory(connection, "pg_advisory_lock")
            try:
                yield
            finally:
                _advisory(connection, "pg_advisory_unlock")
        return
    database = engine.url.database
    if not database or database == ":memory:":
        yield
        return
    with Path(f"{database}.migration-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _advisory(connection: Connection, function: str) -> None:
    connection.execute(text(f"SELECT {function}(:key)"), {"key": _ADVISORY_LOCK})
    connection.commit()
