"""The tables, declared once; migrations and queries are written against these.

Over 300 lines: all tables in one place, which is what a reader of a query looks for.
Arrays of doubles (`mean`, `m`, ...) are little-endian float64 in `bytea`: bit-exact and unnestable.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    }
)

_NOW = sa.text("now()")


def _created() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW)


_Type = sa.Float[float] | type[sa.Integer] | type[sa.LargeBinary]


def _columns(kind: _Type, *names: str) -> list[sa.Column[object]]:
    """Columns of one type that are always set."""
    return [sa.Column(name, kind, nullable=False) for name in names]


apply_sequence = sa.Sequence("apply_seq", metadata=metadata)
"""Order of application; allotted in the report's transaction, so it rises along each task."""

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("num_tasks", sa.Integer, nullable=False, server_default="0"),
    _created(),
    sa.Column("deleted_at", sa.DateTime(timezone=True)),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("dataset_id", sa.Text, sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("split", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("subtasks", ARRAY(sa.Text), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("aids", sa.LargeBinary),
    sa.Column("features", sa.LargeBinary),
    sa.UniqueConstraint("dataset_id", "id"),
)
"""`aids` (JSON) are null where a task has none, `features` (doubles) for tasks of old imports."""

runs = sa.Table(
    "runs",
    metadata,
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
    sa.Column("loading_epoch", sa.Integer),
    sa.Column("last_rebuild", JSONB),
    _created(),
    sa.Column("forked_from", JSONB),
)

ledger = sa.Table(
    "ledger",
    metadata,
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
    *_columns(sa.Integer, "num_waiting", "num_valid", "num_success"),
    sa.Column("reward_mean", sa.Float(53), nullable=False),
    sa.Column("reward_var", sa.Float(53), nullable=False),
    sa.Column("num_tokens", sa.BigInteger, nullable=False),
    *_columns(sa.LargeBinary, "mean", "prev", "new"),
    sa.Column("outcomes", JSONB, nullable=False),
    _created(),
    sa.UniqueConstraint("run_id", "lease_id", "ordinal", "kind", "level", "number", "fence"),
    sa.Index(None, "run_id", "ordinal", "apply_seq"),
    sa.Index("ledger_late_idx", "run_id", postgresql_where=sa.text("verdict = 'late'")),
    sa.Index("ledger_replayed_idx", "run_id", postgresql_where=sa.text("verdict = 'replayed'")),
    postgresql_partition_by="LIST (run_id)",
)
"""A partition a run, made by a trigger of `runs` (revision 0006); dropped by `removal`."""

ended_leases = sa.Table(
    "ended_leases",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("lease_id", sa.Text, primary_key=True),
    _created(),
    sa.Index(None, "run_id", "created_at"),
)
"""Prompt leases that expired or were given back: no report of theirs may commit any more."""

task_statistics = sa.Table(
    "task_statistics",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    *_columns(sa.Float(53), "s", "f", "ema"),
    *_columns(sa.Integer, "z_easy", "z_hard"),
    *_columns(sa.Float(53), "abs_a", "reward_mean", "reward_var"),
    *_columns(sa.Integer, "full_visits", "n", "last_version"),
    *_columns(sa.LargeBinary, "m", "v"),
    sa.Column("x", sa.LargeBinary, nullable=False, server_default=sa.text("''::bytea")),
    sa.Index(None, "run_id", "last_version"),
    sa.Index(
        *("task_statistics_explorer_idx", "run_id", "ema", "ordinal"),
        postgresql_where=sa.text("kind = 'none' AND level = 0"),
    ),
)

demonstrations = sa.Table(
    "demonstrations",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("apply_seq", sa.BigInteger, primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
)
"""Right completions that hard tasks may be shown; a bounded number of the newest."""

receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_hash", sa.Text, nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=False),
    _created(),
    sa.Index(None, "run_id", "created_at"),
)

policy_versions = sa.Table(
    "policy_versions",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("weights_uri", sa.Text),
    sa.Column("summary", JSONB, nullable=False),
    _created(),
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("value", sa.Float(53), nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("lease_id", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("policy_version", sa.Integer),
    sa.Column("num_waiting", sa.Integer),
    sa.Column("tasks", sa.Text, nullable=False),
    sa.Column("records", sa.LargeBinary),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_hash", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("response", sa.LargeBinary),
    _created(),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False),
    sa.Column("runs", ARRAY(sa.Text)),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    _created(),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
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
    sa.UniqueConstraint("run_id", "id"),
)
"""Curriculum checkpoints; `data` is written and read by `snapshot`, stored without a second
compression."""

restores = sa.Table(
    "restores",
    metadata,
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
    sa.UniqueConstraint("run_id", "id"),
)
"""Each discards the ledger rows with `after_seq < apply_seq <= last_seq`: `ledger_sql.LIVE`."""

discarded_versions = sa.Table(
    "discarded_versions",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("restore_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("content", JSONB, nullable=False),
)
"""Rows of `policy_versions` that a restore took out of the history, as JSON."""

deleted_runs = sa.Table(
    "deleted_runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("purged_at", sa.DateTime(timezone=True)),
)
"""Runs that are gone for callers; their rows go piece by piece until `purged_at`."""

imported_archives = sa.Table(
    "imported_archives",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
    _created(),
)
"""Which archive a run came from, so that importing it again does nothing."""

retention_marks = sa.Table(
    *("retention_marks", metadata),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("outcomes_seq", sa.BigInteger, nullable=False, server_default="0"),
)
"""Ledger rows up to this one have lost their outcomes' detail."""
