"""Right completions of the policy, from which hard tasks get demonstrations; one table.

Replicas of the release before neither read nor write it: runs with a part `hard` name a part that
they do not know.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS demonstrations (
            run_id text NOT NULL,
            apply_seq bigint NOT NULL,
            ordinal integer NOT NULL,
            policy_version integer NOT NULL,
            answer text NOT NULL,
            CONSTRAINT demonstrations_pkey PRIMARY KEY (run_id, apply_seq)
        )
        """
    )


def downgrade() -> None:
    """Forget them: hard tasks are served bare until new ones come."""
    op.execute("DROP TABLE IF EXISTS demonstrations")
