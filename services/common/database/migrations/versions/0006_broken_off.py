"""Which series a listener is receiving at present, and whose sender broke off.

Revision: 0006
Follows: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
USABLE_FROM = "0005"


def upgrade() -> None:
    """Older code, which knows neither, writes rows all the same."""
    op.add_column("series", sa.Column("receiving_by", sa.String(64), nullable=True))
    op.add_column(
        "series",
        sa.Column("broken_off", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index("ix_series_receiving_by", "series", ["receiving_by"])


def downgrade() -> None:
    op.drop_index("ix_series_receiving_by", "series")
    op.drop_column("series", "broken_off")
    op.drop_column("series", "receiving_by")
