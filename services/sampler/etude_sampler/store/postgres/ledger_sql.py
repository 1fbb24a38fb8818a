"""The fixed statements of the report path, and how rows become their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from ...ports.ledger import LedgerRow
from .statistics_rows import COLUMNS

FOLD_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

READ = f"""
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0)) AS lock),
seqs AS MATERIALIZED (
    SELECT array_agg(nextval('apply_seq')) AS seqs FROM held, generate_series(1, $4)
)
SELECT r.epoch, r.policy_version, k.body_hash, k.response, seqs.seqs, {COLUMNS}
FROM seqs, runs r
LEFT JOIN receipts k ON k.run_id = r.id AND k.key = $2
LEFT JOIN task_statistics t ON t.run_id = r.id AND t.ordinal = ANY($3::int[])
WHERE r.id = $1
ORDER BY ordinal, kind, level
"""
"""All that a report's transaction reads, in one statement. The shared lock is taken before the
sequence numbers are: reports of a run commit side by side, and a fold (exclusive) sees every
number below its last one or waits for it."""

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

_STATISTICS_FIRST = 2
_RECEIPT_FIRST = _STATISTICS_FIRST + len(_STATISTICS_TYPES)

WRITE = f"""
WITH folded AS (
    INSERT INTO task_statistics (run_id, {COLUMNS})
    SELECT $1, * FROM unnest({_unnest(_STATISTICS_TYPES, first=_STATISTICS_FIRST)})
    ON CONFLICT (run_id, ordinal, kind, level) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[3:])}
    WHERE task_statistics.fence < excluded.fence
    RETURNING 1
),
kept AS (
    INSERT INTO receipts (run_id, key, body_hash, response)
    VALUES ($1, ${_RECEIPT_FIRST}, ${_RECEIPT_FIRST + 1}, ${_RECEIPT_FIRST + 2})
)
SELECT (SELECT count(*) FROM folded) AS folded, r.epoch, r.policy_version,
       EXISTS (SELECT FROM ended_leases e
               WHERE e.run_id = $1 AND e.lease_id = ${_RECEIPT_FIRST + 3}) AS ended
FROM runs r WHERE r.id = $1
"""
"""What a report's transaction writes beside its ledger rows (`copy_ledger`); the caller compares
the count, and epoch and version, which `READ` may have seen from before it got the lock."""

READ_NOTES = """
SELECT ordinal, x FROM task_statistics
WHERE run_id = $1 AND kind = 'none' AND level = 0 AND ordinal = ANY($2::int[])
"""
"""Notes of tasks as a fold sees them: under its lock, after every group that it folds."""

IS_LIVE = """run_id = $1 AND kind = 'none' AND level = 0
AND CASE WHEN octet_length(x) > $2 THEN get_byte(x, $2) <> 0 ELSE false END"""
"""Un-scaffolded statistics of tasks whose byte $2 of the notes is not 0."""
READ_LIVE = f"SELECT x FROM task_statistics WHERE {IS_LIVE} ORDER BY ordinal"

READ_FEATURES = """
SELECT t.ordinal, t.source, t.features, CASE WHEN t.features IS NULL THEN t.body END AS body
FROM runs r JOIN tasks t ON t.dataset_id = r.dataset_id
WHERE r.id = $1 AND t.ordinal = ANY($2::int[])
"""

HAS_LATE = """
SELECT EXISTS (SELECT FROM ledger WHERE run_id = $1 AND lease_id = $2 AND verdict = 'late')
"""

LATE_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))"
"""Late reports of a lease come one after the other, so that their bound holds."""

NUM_LATE = """
SELECT count(*) FROM ledger WHERE run_id = $1 AND lease_id = $2 AND verdict = 'late'
"""

LOCK_PATIENCE = "SET LOCAL lock_timeout = '500ms'"
"""For who can come again: whoever waits for the exclusive lock keeps every report waiting."""

END_LEASE = """
INSERT INTO ended_leases (run_id, lease_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
"""Under the exclusive lock: what was committing has committed, and `WRITE` sees the row after."""

INSERT_RECEIPT = """
INSERT INTO receipts (run_id, key, body_hash, response) VALUES ($1, $2, $3, $4)
"""

INSERT_REPLAYS = """
INSERT INTO ledger (run_id, apply_seq, lease_id, fence, ordinal, number, policy_version,
    min_version, kind, level, lane, verdict, gate, slot_probability, num_waiting, num_valid,
    num_success, reward_mean, reward_var, num_tokens, mean, prev, new, outcomes)
SELECT $1, nextval('apply_seq'), t.lease_id, t.fence, t.ordinal, t.number, t.policy_version,
    t.min_version, coalesce(o.kind, 'none'), coalesce(o.level, 0), coalesce(o.lane, 0),
    'replayed', 'admitted', 0, 0, 0, 0, 0, 0, 0, '', '', '',
    jsonb_build_object('replay_of', t.origin_seq)
FROM unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::int[], $8::int[])
    AS t(lease_id, fence, ordinal, number, origin_seq, policy_version, min_version)
LEFT JOIN ledger o ON o.run_id = $1 AND o.apply_seq = t.origin_seq
"""
"""A line for each group trained on again, of no rollouts: what it is a replay of says the rest."""

READ_LEDGER = (
    f"SELECT {', '.join(LEDGER_COLUMNS[:-1])}, outcomes::text AS outcomes, created_at "
    "FROM ledger WHERE run_id = $1"
)

LIVE = """NOT EXISTS (SELECT 1 FROM restores d WHERE d.run_id = ledger.run_id
    AND ledger.apply_seq > d.after_seq AND ledger.apply_seq <= d.last_seq)"""
"""Ledger rows that no restore has discarded; what counts is read with it."""

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
INSERT INTO policy_versions (run_id, version, weights_uri, summary)
VALUES ($1, $2, $3, $4::text::jsonb)
"""


async def copy_ledger(
    connection: asyncpg.Connection, run_id: str, rows: Sequence[LedgerRow]
) -> None:
    """Append rows by binary COPY, the cheapest way in.

    Raises:
        asyncpg.UniqueViolationError: one of the attempts is in the ledger.
    """
    width = len(LEDGER_COLUMNS)
    await connection.copy_records_to_table(
        "ledger",
        records=[(run_id, *row[:width]) for row in rows],
        columns=("run_id", *LEDGER_COLUMNS),
    )


def ledger_arguments(rows: Sequence[LedgerRow]) -> list[list[object]]:
    """One list a column of `LEDGER_COLUMNS`, for `unnest`."""
    return [
        list(column) for column in zip(*(row[: len(LEDGER_COLUMNS)] for row in rows), strict=True)
    ]


def ledger_row(record: asyncpg.Record) -> LedgerRow:
    """A row of `READ_LEDGER`."""
    return LedgerRow(**dict(record))
