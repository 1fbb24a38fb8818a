"""Runs remember the epoch that is being loaded and the last rebuild: two columns without default.

Replicas of the version before raise the epoch at every attempt and leave both columns alone, which
reads as "no load to take up again".
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns: no row is rewritten."""
    op.add_column("runs", sa.Column("loading_epoch", sa.Integer))
    op.add_column("runs", sa.Column("last_rebuild", JSONB))


def downgrade() -> None:
    """Forget them: the next attempt raises the epoch again."""
    op.drop_column("runs", "last_rebuild")
    op.drop_column("runs", "loading_epoch")
