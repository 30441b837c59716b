"""When expectations were noted.

Revision: 0002
Follows: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.common.database.tables import UtcDateTime, utc_now

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_EXPECTATION = sa.table("expectation", sa.column("noted_at", UtcDateTime()))


def upgrade() -> None:
    op.add_column("expectation", sa.Column("noted_at", UtcDateTime(), nullable=True))
    op.execute(_EXPECTATION.update().values(noted_at=utc_now()))


def downgrade() -> None:
    op.drop_column("expectation", "noted_at")
