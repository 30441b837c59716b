"""What share of a job's network passes is done.

Revision: 0007
Follows: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
USABLE_FROM = "0005"


def upgrade() -> None:
    """Older code, which does not know it, writes rows all the same."""
    op.add_column("job", sa.Column("progress", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "progress")
