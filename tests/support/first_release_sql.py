"""The first release's statements, word for word, for a database that is newer than they are.

Replicas of a release go on while the next one migrates: what they send must keep its meaning
(expand, then contract). Frozen; never adapt them to a schema. Made from commit d12ac56.
"""

from __future__ import annotations

READ = """
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0)) AS lock),
seqs AS MATERIALIZED (
    SELECT array_agg(nextval('apply_seq')) AS seqs FROM held, generate_series(1, $4)
)
SELECT r.epoch, r.policy_version, k.body_hash, k.response, seqs.seqs, ordinal, kind, level, fence,
    s, f, ema, z_easy, z_hard, abs_a, reward_mean, reward_var, full_visits, n, last_version, m, v
FROM seqs, runs r
LEFT JOIN receipts k ON k.run_id = r.id AND k.key = $2
LEFT JOIN task_statistics t ON t.run_id = r.id AND t.ordinal = ANY($3::int[])
WHERE r.id = $1
ORDER BY ordinal, kind, level
"""
"""All that a report's transaction read: $1 run, $2 key, $3 ordinals, $4 attempts."""

WRITE = """
WITH written AS (
INSERT INTO ledger (run_id, apply_seq, lease_id, ordinal, kind, level, number, fence, verdict,
    gate, policy_version, min_version, lane, slot_probability, num_waiting, num_valid,
    num_success, reward_mean, reward_var, num_tokens, mean, prev, new, outcomes)
SELECT $1, apply_seq, lease_id, ordinal, kind, level, number, fence, verdict, gate,
    policy_version, min_version, lane, slot_probability, num_waiting, num_valid, num_success,
    reward_mean, reward_var, num_tokens, mean, prev, new, outcomes::jsonb
FROM unnest($2::bigint[], $3::text[], $4::int[], $5::text[], $6::int[], $7::int[], $8::bigint[],
    $9::text[], $10::text[], $11::int[], $12::int[], $13::smallint[], $14::float8[], $15::int[],
    $16::int[], $17::int[], $18::float8[], $19::float8[], $20::bigint[], $21::bytea[],
    $22::bytea[], $23::bytea[], $24::text[]) AS t(apply_seq, lease_id, ordinal, kind, level,
    number, fence, verdict, gate, policy_version, min_version, lane, slot_probability,
    num_waiting, num_valid, num_success, reward_mean, reward_var, num_tokens, mean, prev, new,
    outcomes)
ON CONFLICT DO NOTHING
 RETURNING 1),
folded AS (
    INSERT INTO task_statistics (run_id, ordinal, kind, level, fence, s, f, ema, z_easy, z_hard,
    abs_a, reward_mean, reward_var, full_visits, n, last_version, m, v)
    SELECT $1, * FROM unnest($25::int[], $26::text[], $27::int[], $28::bigint[], $29::float8[],
    $30::float8[], $31::float8[], $32::int[], $33::int[], $34::float8[], $35::float8[],
    $36::float8[], $37::int[], $38::int[], $39::int[], $40::bytea[], $41::bytea[])
    ON CONFLICT (run_id, ordinal, kind, level) DO UPDATE SET
    fence = excluded.fence, s = excluded.s, f = excluded.f, ema = excluded.ema, z_easy =
    excluded.z_easy, z_hard = excluded.z_hard, abs_a = excluded.abs_a, reward_mean =
    excluded.reward_mean, reward_var = excluded.reward_var, full_visits = excluded.full_visits, n
    = excluded.n, last_version = excluded.last_version, m = excluded.m, v = excluded.v
    WHERE task_statistics.fence < excluded.fence
    RETURNING 1
),
kept AS (
    INSERT INTO receipts (run_id, key, body_hash, response)
    VALUES ($1, $42, $43, $44)
)
SELECT (SELECT count(*) FROM written) AS written, (SELECT count(*) FROM folded) AS folded,
       (SELECT epoch FROM runs WHERE id = $1) AS epoch
"""
"""All that it wrote: run, 23 ledger columns, 17 statistics columns, key, body hash, receipt."""

INSERT_LEDGER = """
INSERT INTO ledger (run_id, apply_seq, lease_id, ordinal, kind, level, number, fence, verdict,
    gate, policy_version, min_version, lane, slot_probability, num_waiting, num_valid,
    num_success, reward_mean, reward_var, num_tokens, mean, prev, new, outcomes)
SELECT $1, apply_seq, lease_id, ordinal, kind, level, number, fence, verdict, gate,
    policy_version, min_version, lane, slot_probability, num_waiting, num_valid, num_success,
    reward_mean, reward_var, num_tokens, mean, prev, new, outcomes::jsonb
FROM unnest($2::bigint[], $3::text[], $4::int[], $5::text[], $6::int[], $7::int[], $8::bigint[],
    $9::text[], $10::text[], $11::int[], $12::int[], $13::smallint[], $14::float8[], $15::int[],
    $16::int[], $17::int[], $18::float8[], $19::float8[], $20::bigint[], $21::bytea[],
    $22::bytea[], $23::bytea[], $24::text[]) AS t(apply_seq, lease_id, ordinal, kind, level,
    number, fence, verdict, gate, policy_version, min_version, lane, slot_probability,
    num_waiting, num_valid, num_success, reward_mean, reward_var, num_tokens, mean, prev, new,
    outcomes)
ON CONFLICT DO NOTHING
"""
"""Late outcomes."""

READ_LEDGER = """
SELECT apply_seq, lease_id, ordinal, kind, level, number, fence, verdict, gate, policy_version,
    min_version, lane, slot_probability, num_waiting, num_valid, num_success, reward_mean,
    reward_var, num_tokens, mean, prev, new, outcomes::text AS outcomes, created_at FROM ledger
    WHERE run_id = $1
"""
"""A fold's groups, and a task's last ones."""

FOLD_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended($1, 0))
"""
"""Before a fold."""

FOLD_HEAD = """
SELECT epoch, policy_version, trainer_fence, allocator_state, totals::text AS totals,
       folded_seq
FROM runs WHERE id = $1 FOR UPDATE
"""
"""A fold's run."""

UPDATE_RUN = """
UPDATE runs SET policy_version = $2, trainer_fence = $3, weights_uri = coalesce($4, weights_uri),
       allocator_state = $5, totals = $6::text::jsonb, folded_seq = $7
WHERE id = $1
"""
"""A fold's outcome."""

INSERT_VERSION = """
INSERT INTO policy_versions (run_id, version, weights_uri, summary)
VALUES ($1, $2, $3, $4::text::jsonb)
"""
"""A version."""

INSERT_RECEIPT = """
INSERT INTO receipts (run_id, key, body_hash, response) VALUES ($1, $2, $3, $4)
"""
"""An ack's receipt."""

INSERT_RUN = """
INSERT INTO runs (id, name, dataset_id, status, spec, resolved, secret, num_tasks, weights_uri,
    allocator_state, totals)
SELECT $1, $2, dataset_id, status, spec, resolved, secret, num_tasks, weights_uri,
    allocator_state, totals FROM runs WHERE id = $3
ON CONFLICT (id) DO NOTHING
"""
"""A new run; its values are those of another one."""

SELECT_RUN = """
SELECT runs.id, runs.name, runs.dataset_id, runs.status, runs.spec, runs.resolved, runs.secret,
    runs.num_tasks, runs.epoch, runs.revision, runs.policy_version, runs.weights_uri,
    runs.trainer_fence, runs.folded_seq, runs.allocator_state, runs.totals, runs.created_at
FROM runs WHERE runs.id = $1
"""

STORE_DECISION = """
INSERT INTO decisions (run_id, epoch, number, kind, lease_id, fence, policy_version, num_waiting,
    tasks, at_ms) VALUES ($1, 9, 1, 'draw', 'lease_x', 1, 0, 1, '0', 1) ON CONFLICT DO NOTHING
"""

LIST_DATASETS = """
SELECT datasets.id, datasets.name, datasets.num_tasks, datasets.created_at FROM datasets
WHERE datasets.id > $1 ORDER BY datasets.id LIMIT $2
"""

NUM_LEDGER_COLUMNS = 23
NUM_STATISTICS_COLUMNS = 17
