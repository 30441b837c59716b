"""The database as migrations make it is the one that the tables describe, also from an old one."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.orm import Session

from services.common import database
from services.common.database import (
    ExpectationRow,
    FateRow,
    JobInputRow,
    JobOutputRow,
    JobRow,
    MeasurementRow,
    SchemaVersionRow,
    migrate,
    open_database,
    utc_now,
)
from services.common.database.engine import DatabaseError
from services.common.database.migrate import _usable_from  # pyright: ignore[reportPrivateUsage]
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


def test_jobs_of_an_old_database_move_into_their_tables(database_url: str) -> None:
    engine = open_database(database_url)
    selection = {
        "t1": {"series_uid": "1.3", "sop_instance_uids": ["1.4", "1.5"], "frames": [2, 1]},
        "flair": {"series_uid": "1.6", "sop_instance_uids": ["1.7"], "frames": [0]},
    }
    measured = [{"segment_number": 1, "segment_label": "Brain", "name": "volume", "value": 1.5}]
    with engine.connect() as connection:
        _upgrade(connection, "0004")
        for uid, labels, found in (("2.1", "jobs/2.1/labels", measured), ("2.2", None, None)):
            connection.execute(
                text(
                    "INSERT INTO job (job_uid, study_uid, revision, model_name, model_version, "
                    "model_digest, selection, selection_digest, state, labels_key, measurements, "
                    "carried_into, starts, attempt, created_at) VALUES (:uid, '1.2', 1, 'm', "
                    "'1.0.0', 'd', :selection, 's', 'processed', :labels, :found, '[]', 1, 1, "
                    "'2026-01-01 00:00:00')"
                ),
                {
                    "uid": uid,
                    "selection": json.dumps(selection),
                    "labels": labels,
                    "found": None if found is None else json.dumps([{**found[0], "unit": "mL"}]),
                },
            )
        for series, job in (("1.3", "2.1"), ("1.9", None)):
            connection.execute(
                text(
                    "INSERT INTO fate (study_uid, revision, series_uid, model_name, fate, reason, "
                    "reason_values, job_uid, decided_at) VALUES ('1.2', 1, :series, 'm', "
                    "'processed', 'segmented', '{}', :job, '2026-01-01 00:00:00')"
                ),
                {"series": series, "job": job},
            )
        connection.commit()
    migrate(engine)
    with Session(engine) as session:
        inputs = session.scalars(
            select(JobInputRow).where(JobInputRow.job_uid == "2.1").order_by(JobInputRow.ordinal)
        ).all()
        assert [(row.role, row.series_uid, row.instances, row.frames) for row in inputs] == [
            ("t1", "1.3", ["1.4", "1.5"], [2, 1]),
            ("flair", "1.6", ["1.7"], [0]),
        ]
        assert session.get_one(JobRow, "2.1").grid_role == "t1"
        output = session.scalars(select(JobOutputRow)).one()
        assert (output.job_uid, output.store_key, output.grid_role) == (
            "2.1",
            "jobs/2.1/labels",
            "t1",
        )
        number = session.scalars(select(MeasurementRow)).one()
        assert (number.value, number.unit, number.segment_label) == (1.5, "mL", "Brain")
        fates = session.scalars(select(FateRow).order_by(FateRow.series_uid)).all()
        assert [(row.series_uid, row.job_uid) for row in fates] == [("1.3", "2.1"), ("1.9", "")]
    engine.dispose()


def test_a_newer_database_that_this_code_may_use_is_left_as_it_is(database_url: str) -> None:
    engine = open_database(database_url)
    migrate(engine)
    _stamp(engine, "9999", usable_from=None)
    migrate(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()


@pytest.mark.parametrize("table", ["kept", "gone"])
def test_a_newer_database_that_this_code_may_not_use_is_refused_in_one_sentence(
    database_url: str, table: str
) -> None:
    engine = open_database(database_url)
    migrate(engine)
    _stamp(engine, "9999", usable_from="9998")
    if table == "gone":  # of a version that said nothing of it
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE schema_version"))
    with pytest.raises(DatabaseError, match=r"database has version 9999.*Start the newer Axial"):
        migrate(engine)
    engine.dispose()


def test_a_database_says_the_strictest_of_all_migrations(database_url: str) -> None:
    engine = open_database(database_url)
    migrate(engine)
    with Session(engine) as session:
        row = session.scalars(select(SchemaVersionRow)).one()
    assert row.usable_from >= "0005"
    assert row.revision >= row.usable_from
    engine.dispose()


@pytest.mark.parametrize("said", [None, "", "9999", 5])
def test_a_migration_that_does_not_say_who_may_use_its_database_is_refused(said: object) -> None:
    module = SimpleNamespace() if said is None else SimpleNamespace(USABLE_FROM=said)
    script = cast(Script, SimpleNamespace(revision="0007", module=module))
    with pytest.raises(DatabaseError, match="Migration 0007 does not say"):
        _usable_from(script)


def test_every_migration_since_the_rule_says_who_may_use_its_database() -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    said = {
        each.revision: _usable_from(each)
        for each in ScriptDirectory.from_config(config).walk_revisions()
    }
    assert said["0004"] == "0001"
    assert all(
        "0005" <= usable <= revision for revision, usable in said.items() if revision > "0004"
    )


def _stamp(engine: Engine, revision: str, usable_from: str | None) -> None:
    """As a newer version leaves a database behind."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        if usable_from is not None:
            connection.execute(
                text("UPDATE schema_version SET revision = :r, usable_from = :u"),
                {"r": revision, "u": usable_from},
            )


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()
