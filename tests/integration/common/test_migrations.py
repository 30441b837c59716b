"""The database as migrations make it is the one that the tables describe, also from an old one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text

from services.common import database
from services.common.database import ExpectationRow, migrate, open_database, utc_now
from services.common.database.tables import Base

_MIGRATIONS = Path(database.__file__).parent / "migrations"


def test_migrations_make_the_tables_as_they_are_described(database_url: str) -> None:
    engine = open_database(database_url)
    migrate(engine)
    migrate(engine)  # nothing is left to be done
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_an_old_database_keeps_its_rows(database_url: str) -> None:
    engine = open_database(database_url)
    with engine.connect() as connection:
        _upgrade(connection, "0001")
        connection.execute(
            text(
                "INSERT INTO expectation (study_uid, series_uid, source, instances) "
                "VALUES ('1.2', '', 'told', 7)"
            )
        )
        connection.commit()
    migrate(engine)
    with engine.connect() as connection:
        row = connection.execute(select(ExpectationRow)).one()
    assert (row.study_uid, row.instances) == ("1.2", 7)
    assert utc_now() - row.noted_at < dt.timedelta(minutes=10)
    engine.dispose()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()
