"""The fixed statements of the report path, and how rows become their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from ...ports.ledger import LedgerRow
from .statistics_rows import COLUMNS

REPORT_LOCK = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))"
"""Reports of a run commit side by side; a fold (exclusive) sees all of them or none."""

FOLD_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

HEAD = """
SELECT r.epoch, r.policy_version, k.body_hash, k.response,
       ARRAY(SELECT nextval('apply_seq') FROM generate_series(1, $3)) AS seqs
FROM runs r LEFT JOIN receipts k ON k.run_id = r.id AND k.key = $2
WHERE r.id = $1
"""

READ_STATISTICS = f"""
SELECT {COLUMNS} FROM task_statistics WHERE run_id = $1 AND ordinal = ANY($2::int[])
ORDER BY ordinal, kind, level
"""

LEDGER_COLUMNS = (
    "apply_seq",
    "lease_id",
    "ordinal",
    "kind",
    "level",
    "number",
    "fence",
    "verdict",
    "gate",
    "policy_version",
    "min_version",
    "lane",
    "slot_probability",
    "num_waiting",
    "num_valid",
    "num_success",
    "reward_mean",
    "reward_var",
    "num_tokens",
    "mean",
    "prev",
    "new",
    "outcomes",
)
_LEDGER_TYPES = [
    "bigint",
    "text",
    "int",
    "text",
    "int",
    "int",
    "bigint",
    "text",
    "text",
    "int",
    "int",
    "smallint",
    "float8",
    "int",
    "int",
    "int",
    "float8",
    "float8",
    "bigint",
    "bytea",
    "bytea",
    "bytea",
    "text",
]
_STATISTICS_TYPES = [
    "int",
    "text",
    "int",
    "bigint",
    "float8",
    "float8",
    "float8",
    "int",
    "int",
    "float8",
    "float8",
    "float8",
    "int",
    "int",
    "int",
    "bytea",
    "bytea",
]


def _unnest(types: Sequence[str], *, first: int) -> str:
    return ", ".join(f"${first + i}::{name}[]" for i, name in enumerate(types))


INSERT_LEDGER = f"""
INSERT INTO ledger (run_id, {", ".join(LEDGER_COLUMNS)})
SELECT $1, {", ".join(LEDGER_COLUMNS[:-1])}, outcomes::jsonb
FROM unnest({_unnest(_LEDGER_TYPES, first=2)}) AS t({", ".join(LEDGER_COLUMNS)})
ON CONFLICT DO NOTHING
"""

UPSERT_STATISTICS = f"""
INSERT INTO task_statistics (run_id, {COLUMNS})
SELECT $1, * FROM unnest({_unnest(_STATISTICS_TYPES, first=2)})
ON CONFLICT (run_id, ordinal, kind, level) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[3:])}
WHERE task_statistics.fence < excluded.fence
"""

INSERT_RECEIPT = """
INSERT INTO receipts (run_id, key, body_hash, response) VALUES ($1, $2, $3, $4)
"""

READ_LEDGER = (
    f"SELECT {', '.join(LEDGER_COLUMNS[:-1])}, outcomes::text AS outcomes, created_at "
    "FROM ledger WHERE run_id = $1"
)

FOLD_HEAD = """
SELECT epoch, policy_version, trainer_fence, allocator_state, totals::text AS totals,
       folded_seq
FROM runs WHERE id = $1 FOR UPDATE
"""

UPDATE_RUN = """
UPDATE runs SET policy_version = $2, trainer_fence = $3, weights_uri = coalesce($4, weights_uri),
       allocator_state = $5, totals = $6::text::jsonb, folded_seq = $7
WHERE id = $1
"""

INSERT_VERSION = """
INSERT INTO policy_versions (run_id, version, weights_uri, summary) VALUES ($1, $2, $3, $4::text::jsonb)
"""


def ledger_arguments(rows: Sequence[LedgerRow]) -> list[list[object]]:
    """One list a column of `LEDGER_COLUMNS`, for `unnest`."""
    return [[getattr(row, name) for row in rows] for name in LEDGER_COLUMNS]


def ledger_row(record: asyncpg.Record) -> LedgerRow:
    """A row of `READ_LEDGER`."""
    return LedgerRow(**dict(record))
