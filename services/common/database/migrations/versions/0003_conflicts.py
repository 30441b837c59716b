"""What is known to be missing of a revision.

Revision: 0003
Follows: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revision", sa.Column("incomplete", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("revision", "incomplete")
