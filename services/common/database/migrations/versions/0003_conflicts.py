"""Conflicts: other bytes under a known SOP Instance UID. What is known to be missing of a revision.

Revision: 0003
Follows: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.common.database.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revision", sa.Column("incomplete", sa.JSON(), nullable=True))
    op.create_table(
        "conflict",
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("data_digest", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("kept_study_uid", sa.String(64), nullable=False),
        sa.Column("kept_series_uid", sa.String(64), nullable=False),
        sa.Column("differs", sa.JSON(), nullable=False),
        sa.Column("among_own", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("peer", sa.String(16), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("last_received_at", UtcDateTime(), nullable=False),
        sa.Column("store_key", sa.String(255), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("sop_instance_uid", "data_digest", "transfer_syntax_uid"),
    )
    for column in ("study_uid", "series_uid", "kept_study_uid", "state"):
        op.create_index(f"ix_conflict_{column}", "conflict", [column])


def downgrade() -> None:
    op.drop_table("conflict")
    op.drop_column("revision", "incomplete")
