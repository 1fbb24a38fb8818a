"""Curriculum checkpoints, restores, forks: new tables and one nullable column; locks nothing long.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _created() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")
    )


def upgrade() -> None:
    """Add what time travel keeps. A replica of the release before goes on undisturbed."""
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("weights_uri", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("apply_seq", sa.BigInteger, nullable=False),
        sa.Column("folded_seq", sa.BigInteger, nullable=False),
        sa.Column("allocator_state", sa.Text, nullable=False),
        sa.Column("totals", JSONB, nullable=False),
        sa.Column("num_statistics", sa.Integer, nullable=False),
        sa.Column("num_subtasks", sa.Integer, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("format", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("discarded_at", sa.DateTime(timezone=True)),
        _created(),
        sa.UniqueConstraint("run_id", "id", name="checkpoints_run_id_id_key"),
    )
    op.execute("ALTER TABLE checkpoints ALTER COLUMN data SET STORAGE EXTERNAL")
    op.create_table(
        "restores",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("checkpoint_id", sa.Text, nullable=False),
        sa.Column("from_version", sa.Integer, nullable=False),
        sa.Column("to_version", sa.Integer, nullable=False),
        sa.Column("weights_uri", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("after_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("num_groups", sa.Integer, nullable=False),
        _created(),
        sa.UniqueConstraint("run_id", "id", name="restores_run_id_id_key"),
    )
    op.create_table(
        "discarded_versions",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("restore_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("content", JSONB, nullable=False),
    )
    op.add_column("runs", sa.Column("forked_from", JSONB))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("runs", "forked_from")
    op.drop_table("discarded_versions")
    op.drop_table("restores")
    op.drop_table("checkpoints")
