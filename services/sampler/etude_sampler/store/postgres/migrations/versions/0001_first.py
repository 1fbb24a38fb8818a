"""First schema: datasets, tasks, runs, ledger, statistics, receipts, versions, decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _created() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")
    )


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("num_tasks", sa.Integer, nullable=False, server_default="0"),
        _created(),
    )
    op.create_unique_constraint("datasets_name_key", "datasets", ["name"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("dataset_id", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("split", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("subtasks", ARRAY(sa.Text), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("dataset_id", "id", name="tasks_dataset_id_id_key"),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("dataset_id", sa.Text, sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("resolved", JSONB, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("num_tasks", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False, server_default="0"),
        sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
        sa.Column("policy_version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("weights_uri", sa.Text),
        sa.Column("trainer_fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("folded_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("allocator_state", sa.Text, nullable=False),
        sa.Column("totals", JSONB, nullable=False),
        _created(),
    )


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("apply_seq", sa.BigInteger, primary_key=True),
        sa.Column("lease_id", sa.Text, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("min_version", sa.Integer, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("slot_probability", sa.Float(53), nullable=False),
        sa.Column("num_waiting", sa.Integer, nullable=False),
        sa.Column("num_valid", sa.Integer, nullable=False),
        sa.Column("num_success", sa.Integer, nullable=False),
        sa.Column("reward_mean", sa.Float(53), nullable=False),
        sa.Column("reward_var", sa.Float(53), nullable=False),
        sa.Column("num_tokens", sa.BigInteger, nullable=False),
        sa.Column("mean", sa.LargeBinary, nullable=False),
        sa.Column("prev", sa.LargeBinary, nullable=False),
        sa.Column("new", sa.LargeBinary, nullable=False),
        sa.Column("outcomes", JSONB, nullable=False),
        _created(),
        sa.UniqueConstraint(
            "run_id",
            "lease_id",
            "ordinal",
            "kind",
            "level",
            "number",
            "fence",
            name="ledger_run_id_lease_id_ordinal_kind_level_number_fence_key",
        ),
    )
    op.create_index(
        "ledger_late_idx", "ledger", ["run_id"], postgresql_where=sa.text("verdict = 'late'")
    )
    op.create_index(
        "ledger_run_id_ordinal_apply_seq_idx", "ledger", ["run_id", "ordinal", "apply_seq"]
    )


def _task_statistics() -> None:
    op.create_table(
        "task_statistics",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("s", sa.Float(53), nullable=False),
        sa.Column("f", sa.Float(53), nullable=False),
        sa.Column("ema", sa.Float(53), nullable=False),
        sa.Column("z_easy", sa.Integer, nullable=False),
        sa.Column("z_hard", sa.Integer, nullable=False),
        sa.Column("abs_a", sa.Float(53), nullable=False),
        sa.Column("reward_mean", sa.Float(53), nullable=False),
        sa.Column("reward_var", sa.Float(53), nullable=False),
        sa.Column("full_visits", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("m", sa.LargeBinary, nullable=False),
        sa.Column("v", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "task_statistics_run_id_last_version_idx", "task_statistics", ["run_id", "last_version"]
    )


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_hash", sa.Text, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        _created(),
    )


def _policy_versions() -> None:
    op.create_table(
        "policy_versions",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("weights_uri", sa.Text),
        sa.Column("summary", JSONB, nullable=False),
        _created(),
    )


def _predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("lease_id", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("policy_version", sa.Integer),
        sa.Column("num_waiting", sa.Integer),
        sa.Column("tasks", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_hash", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("response", sa.LargeBinary),
        _created(),
    )


def upgrade() -> None:
    """Create everything."""
    op.execute("CREATE SEQUENCE apply_seq")
    _datasets()
    _tasks()
    _runs()
    _ledger()
    _task_statistics()
    _receipts()
    _policy_versions()
    _predictions()
    _decisions()
    _idempotency()


def downgrade() -> None:
    """Drop everything."""
    op.drop_table("idempotency")
    op.drop_table("decisions")
    op.drop_table("predictions")
    op.drop_table("policy_versions")
    op.drop_table("receipts")
    op.drop_table("task_statistics")
    op.drop_table("ledger")
    op.drop_table("runs")
    op.drop_table("tasks")
    op.drop_table("datasets")
    op.execute("DROP SEQUENCE apply_seq")
