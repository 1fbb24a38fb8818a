"""Prompt leases that are over, so that no report of theirs commits after a re-lease; a new table.

Replicas of the version before neither write nor read it: until they are gone, a report may still
be counted that was paused past its lease.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "ended_leases",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("lease_id", sa.Text, primary_key=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
    )


def downgrade() -> None:
    """Forget which leases are over; those that are pinned now may be counted after a re-lease."""
    op.drop_table("ended_leases")
