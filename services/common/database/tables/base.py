"""What every table stands on: the root, UTC times, UIDs; and the version of the schema."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import DateTime, String
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


def utc_now() -> dt.datetime:
    """The present, timezone-aware, in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A timezone-aware UTC time; SQLite keeps no zone, so the zone is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: dt.datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> dt.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("A time without zone must not reach the database.")
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(
        self,
        value: dt.datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    """Root of the tables."""


# A DICOM UID.
UID = String(64)


class SchemaVersionRow(Base):
    """The oldest code that may use the database in its present schema; the table has one row."""

    __tablename__ = "schema_version"
    __table_args__ = ({"info": {"writer": "common"}},)

    # The newest migration.
    revision: Mapped[str] = mapped_column(String(32), primary_key=True)
    # The oldest migration that code has to know.
    usable_from: Mapped[str] = mapped_column(String(32))
    migrated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
