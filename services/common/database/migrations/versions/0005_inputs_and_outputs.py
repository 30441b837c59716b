"""Inputs, outputs and measurements of a job in tables of their own; deployments; fates by job.

Code from before knows no version newer than its own and could not start on this database
whatever it held, so that what the new tables replace goes at once (docs/decisions/0015). From
here on a database says which code may use it.

Revision: 0005
Follows: 0004
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from services.common.database.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
USABLE_FROM = "0005"

# Jobs that are read and written at a time.
_AT_A_TIME = 500


def upgrade() -> None:
    op.create_table(
        "schema_version",
        sa.Column("revision", sa.String(32), primary_key=True),
        sa.Column("usable_from", sa.String(32), nullable=False),
        sa.Column("migrated_at", UtcDateTime(), nullable=False),
    )
    _make_deployment()
    inputs, outputs, measurements = _make_job_tables()
    op.add_column(
        "job", sa.Column("grid_role", sa.String(64), nullable=False, server_default="image")
    )
    op.add_column("job", sa.Column("traceparent", sa.String(64), nullable=False, server_default=""))
    _move_jobs(inputs, outputs, measurements)
    with op.batch_alter_table("job") as job:
        for column in ("selection", "labels_key", "measurements"):
            job.drop_column(column)
    _give_fates_their_job()
    # The name of a form may hold more than one thing.
    with op.batch_alter_table("result") as result:
        result.alter_column(
            "form", existing_type=sa.String(32), type_=sa.String(64), existing_nullable=False
        )


def _make_deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("model_name", sa.String(64), primary_key=True),
        sa.Column("model_digest", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(16), primary_key=True),
        sa.Column("model_version", sa.String(32), nullable=False),
        sa.Column("precision", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("requested_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_deployment_state", "deployment", ["state"])


def _make_job_tables() -> tuple[sa.Table, sa.Table, sa.Table]:
    inputs = op.create_table(
        "job_input",
        sa.Column("job_uid", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(64), primary_key=True),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("volume", sa.Integer(), nullable=False),
        sa.Column("instances", sa.JSON(), nullable=False),
        sa.Column("frames", sa.JSON(), nullable=False),
        sa.Column("left_out", sa.Text(), nullable=False),
    )
    op.create_index("ix_job_input_series_uid", "job_input", ["series_uid"])
    outputs = op.create_table(
        "job_output",
        sa.Column("job_uid", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("grid_role", sa.String(64), nullable=False),
        sa.Column("store_key", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        # "values" is a word of SQL.
        sa.Column("numbers", sa.JSON(), nullable=False),
    )
    measurements = op.create_table(
        "measurement",
        sa.Column("job_uid", sa.String(64), primary_key=True),
        sa.Column("ordinal", sa.Integer(), primary_key=True),
        sa.Column("output", sa.String(64), nullable=False),
        sa.Column("segment_number", sa.Integer(), nullable=False),
        sa.Column("segment_label", sa.String(64), nullable=False),
        sa.Column("lesion", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("why_unknown", sa.Text(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
    )
    return inputs, outputs, measurements


def _move_jobs(inputs: sa.Table, outputs: sa.Table, measurements: sa.Table) -> None:
    connection = op.get_bind()
    for jobs in _jobs(connection):
        rows_in: list[dict[str, Any]] = []
        rows_out: list[dict[str, Any]] = []
        rows_measured: list[dict[str, Any]] = []
        for uid, selection, labels_key, measured in jobs:
            roles = _read(selection) or {}
            rows_in += [_input(uid, n, *item) for n, item in enumerate(roles.items())]
            grid_role = next(iter(roles), "image")
            if grid_role != "image":
                connection.execute(
                    sa.text("UPDATE job SET grid_role = :role WHERE job_uid = :uid"),
                    {"role": grid_role, "uid": uid},
                )
            if labels_key:
                rows_out.append(_output(uid, grid_role, labels_key))
            rows_measured += [_measurement(uid, n, m) for n, m in enumerate(_read(measured) or [])]
        for table, rows in ((inputs, rows_in), (outputs, rows_out), (measurements, rows_measured)):
            if rows:
                connection.execute(sa.insert(table), rows)


def _jobs(connection: sa.Connection) -> Iterator[list[Any]]:
    last = ""
    query = sa.text(
        "SELECT job_uid, selection, labels_key, measurements FROM job WHERE job_uid > :last "
        "ORDER BY job_uid LIMIT :most"
    )
    while rows := list(connection.execute(query, {"last": last, "most": _AT_A_TIME})):
        yield rows
        last = rows[-1][0]


def _read(value: Any) -> Any:
    """SQLite gives JSON as text, PostgreSQL as what it says."""
    return json.loads(value) if isinstance(value, str) else value


def _input(uid: str, ordinal: int, role: str, selected: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_uid": uid,
        "role": role,
        "ordinal": ordinal,
        "series_uid": selected["series_uid"],
        "volume": 1,
        "instances": selected["sop_instance_uids"],
        "frames": selected.get("frames") or [0] * len(selected["sop_instance_uids"]),
        "left_out": selected.get("left_out", ""),
    }


def _output(uid: str, grid_role: str, labels_key: str) -> dict[str, Any]:
    return {
        "job_uid": uid,
        "name": "labels",
        "ordinal": 0,
        "kind": "layers",
        "grid_role": grid_role,
        "store_key": labels_key,
        "digest": "",
        "numbers": {},
    }


def _measurement(uid: str, ordinal: int, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_uid": uid,
        "ordinal": ordinal,
        "output": "labels",
        "segment_number": measured["segment_number"],
        "segment_label": measured["segment_label"],
        "lesion": 0,
        "name": measured["name"],
        "value": measured["value"],
        "low": None,
        "high": None,
        "unit": measured["unit"],
        "why_unknown": "",
        "remark": measured.get("remark", ""),
    }


def _give_fates_their_job() -> None:
    """The job becomes a part of a fate's key; "" where a series was no input of one."""
    op.create_table(
        "fate_by_job",
        sa.Column("study_uid", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("series_uid", sa.String(64), primary_key=True),
        sa.Column("model_name", sa.String(64), primary_key=True),
        sa.Column("job_uid", sa.String(64), primary_key=True, server_default=""),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(48), nullable=False),
        sa.Column("reason_values", sa.JSON(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
    )
    columns = "study_uid, revision, series_uid, model_name, fate, reason, reason_values, decided_at"
    op.execute(
        f"INSERT INTO fate_by_job ({columns}, job_uid) "  # noqa: S608 - names from here
        f"SELECT {columns}, COALESCE(job_uid, '') FROM fate"
    )
    op.drop_index("ix_fate_fate", table_name="fate")
    op.drop_table("fate")
    op.rename_table("fate_by_job", "fate")
    op.create_index("ix_fate_fate", "fate", ["fate"])


def downgrade() -> None:
    raise NotImplementedError("Restore the database from before this migration.")
