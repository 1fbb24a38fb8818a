"""Aids of tasks: what scaffolds may show, apart from the body that every prompt batch carries."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column without a default: no row is rewritten, and the release before copies its own
    columns by name."""
    op.execute("ALTER TABLE tasks ADD COLUMN IF NOT EXISTS aids bytea")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE tasks DROP COLUMN IF EXISTS aids")
