"""Rows that are written once, whoever comes first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from services.common.database import Base


def insert_new(
    connection: Connection,
    table: type[Base],
    rows: list[dict[str, Any]],
    refresh: tuple[str, ...] = (),
) -> None:
    """Inserts `rows` as far as their primary keys are not there yet.

    Equal keys derive from equal work, so that a row that is there says the same; the columns in
    `refresh` are written all the same.
    """
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    if refresh:
        statement = statement.on_conflict_do_update(
            index_elements=list(table.__table__.primary_key),
            set_={name: statement.excluded[name] for name in refresh},
        )
    else:
        statement = statement.on_conflict_do_nothing()
    connection.execute(statement, rows)
