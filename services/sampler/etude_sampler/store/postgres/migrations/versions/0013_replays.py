"""Groups trained on again have lines of their own in the ledger; an index to count them by.

Replicas of the release before write no such line and read none: their runs keep no bank.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index: of no row, for there is no such line yet."""
    op.execute(
        "CREATE INDEX IF NOT EXISTS ledger_replayed_idx ON ledger (run_id) "
        "WHERE verdict = 'replayed'"
    )


def downgrade() -> None:
    """Count without it."""
    op.execute("DROP INDEX IF EXISTS ledger_replayed_idx")
