"""Deliveries that are sent again, and those whose destination was not reached.

Revision: 0004
Follows: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Older code, which knows neither, writes rows all the same."""
    op.add_column(
        "delivery",
        sa.Column("not_reached", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "delivery", sa.Column("sent_again", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("delivery", "sent_again")
    op.drop_column("delivery", "not_reached")
