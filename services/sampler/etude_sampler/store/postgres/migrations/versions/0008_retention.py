"""What retention needs: how far it has got, and indexes by age, built beside reads and writes."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BY_AGE = ("receipts", "ended_leases")


def upgrade() -> None:
    """Add a table and two indexes; an index left invalid by a crash is built again."""
    op.execute(
        "CREATE TABLE IF NOT EXISTS retention_marks (run_id text PRIMARY KEY, "
        "outcomes_seq bigint NOT NULL DEFAULT 0)"
    )
    with op.get_context().autocommit_block():
        for table in _BY_AGE:
            name = f"{table}_run_id_created_at_idx"
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} (run_id, created_at)")


def downgrade() -> None:
    """Drop them."""
    for table in _BY_AGE:
        op.execute(f"DROP INDEX {table}_run_id_created_at_idx")
    op.drop_table("retention_marks")
