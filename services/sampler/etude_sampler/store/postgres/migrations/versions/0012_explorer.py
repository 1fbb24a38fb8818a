"""Tasks of a run by success rate: the task explorer's pages, whatever the number of tasks.

Built beside reads and writes. Every report moves the entries of its tasks; it moved those of
`last_version` already, so no update was heap-only before either (measured: docs/benchmarks.md).
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NAME = "task_statistics_explorer_idx"


def upgrade() -> None:
    """Build the index; what a run that was cut off left behind is invalid, and goes first."""
    with op.get_context().autocommit_block():
        op.execute(
            f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid "
            f"AND indexrelid = to_regclass('{_NAME}')) THEN DROP INDEX {_NAME}; END IF; END $$"
        )
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {_NAME} "
            "ON task_statistics (run_id, ema, ordinal) WHERE kind = 'none' AND level = 0"
        )


def downgrade() -> None:
    """Lists by success rate read all statistics of the run again."""
    op.execute(f"DROP INDEX IF EXISTS {_NAME}")
