"""Decisions keep the packed records that tasks entered with, so that draws can be replayed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column without a default: no row is rewritten, older versions leave it empty."""
    op.add_column("decisions", sa.Column("records", sa.LargeBinary))


def downgrade() -> None:
    """Forget the records; older decisions cannot be replayed."""
    op.drop_column("decisions", "records")
