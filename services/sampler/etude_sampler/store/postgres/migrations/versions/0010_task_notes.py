"""Notes of tasks beside their statistics, and features of tasks; two columns.

Replicas of the release before leave both at their defaults: runs whose parts keep notes or read
features name parts that they do not know.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns: no row is rewritten."""
    op.execute(
        "ALTER TABLE task_statistics ADD COLUMN IF NOT EXISTS x bytea NOT NULL DEFAULT ''::bytea"
    )
    op.execute("ALTER TABLE tasks ADD COLUMN IF NOT EXISTS features bytea")


def downgrade() -> None:
    """Forget what was noted; features are computed from the tasks again."""
    op.execute("ALTER TABLE tasks DROP COLUMN IF EXISTS features")
    op.execute("ALTER TABLE task_statistics DROP COLUMN IF EXISTS x")
