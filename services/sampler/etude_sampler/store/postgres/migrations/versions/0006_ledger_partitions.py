"""The ledger by run: one partition a run, made by a trigger, so that a run is dropped in one go.

Replicas of the release before keep serving meanwhile. The old table becomes the partition of the
runs it holds; proving that it holds no other is a scan beside reads and writes (`VALIDATE`), and
only creating a run waits for it. What does take an exclusive lock of the ledger changes the
catalogue alone; `migrate` gives up on a lock after two seconds and comes again. There is no default
partition: with one, attaching a new run's partition would scan and lock it, and
`DETACH ... CONCURRENTLY` is refused. Every step may run twice; decided in ADR 0014.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_CREATION_LOCK = 0x657475646501
"""Advisory lock: shared by transactions that create a run, exclusive while the ledger is turned."""

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION ledger_partition() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    parent regclass := format('%I.ledger', TG_TABLE_SCHEMA)::regclass;
    part text := format('%I.%I', TG_TABLE_SCHEMA, 'ledger_' || NEW.id);
    gone boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({_CREATION_LOCK});
    IF (SELECT relkind FROM pg_class WHERE oid = parent) <> 'p' THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS ledger_first_runs', parent);
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.deleted_runs WHERE id = $1 '
                   'AND purged_at IS NULL)', TG_TABLE_SCHEMA) INTO gone USING NEW.id;
    IF gone THEN
        RAISE EXCEPTION 'run % is still being removed', NEW.id USING ERRCODE = '55P03';
    END IF;
    IF EXISTS (SELECT FROM pg_inherits
               WHERE inhparent = parent AND inhrelid = to_regclass(part)) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %s', part);
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', part, parent);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%L)', parent, part, NEW.id);
    RETURN NULL;
END $body$
"""
"""Runs as its owner, so that a role without the right to create tables can create runs."""

_RUNS = "SELECT string_agg(quote_literal(id), ',' ORDER BY id) FROM runs"

_PROMISE = f"""
DO $body$
DECLARE ids text := ({_RUNS});
BEGIN
    ALTER TABLE ledger DROP CONSTRAINT IF EXISTS ledger_first_runs;
    IF ids IS NOT NULL THEN
        EXECUTE format('ALTER TABLE ledger ADD CONSTRAINT ledger_first_runs '
                       'CHECK (run_id IN (%s)) NOT VALID', ids);
    END IF;
END $body$
"""

_KEYS = """
    ALTER TABLE ledger ADD CONSTRAINT ledger_pkey PRIMARY KEY (run_id, apply_seq);
    ALTER TABLE ledger ADD CONSTRAINT ledger_run_id_lease_id_ordinal_kind_level_number_fence_key
        UNIQUE (run_id, lease_id, ordinal, kind, level, number, fence);
    CREATE INDEX ledger_run_id_ordinal_apply_seq_idx ON ledger (run_id, ordinal, apply_seq);
    CREATE INDEX ledger_late_idx ON ledger (run_id) WHERE verdict = 'late';
"""

_SWAP = f"""
DO $body$
DECLARE
    ids text := ({_RUNS});
    name text;
    held record;
BEGIN
    LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE ledger RENAME TO ledger_first;
    FOR name IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE i.indrelid = 'ledger_first'::regclass LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', name,
                       left(replace(name, 'ledger_', 'ledger_first_'), 63));
    END LOOP;
    CREATE TABLE ledger (LIKE ledger_first INCLUDING DEFAULTS INCLUDING STORAGE
                         INCLUDING COMPRESSION) PARTITION BY LIST (run_id);
    {_KEYS}
    FOR held IN SELECT a.grantee, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = 'ledger_first'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE format('GRANT %s ON ledger TO %s', held.privilege_type,
                       CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE held.grantee::regrole::text END);
    END LOOP;
    IF ids IS NULL THEN
        DROP TABLE ledger_first;
    ELSE
        EXECUTE format('ALTER TABLE ledger ATTACH PARTITION ledger_first FOR VALUES IN (%s)', ids);
        ALTER TABLE ledger_first DROP CONSTRAINT ledger_first_runs;
    END IF;
END $body$
"""


def _tables() -> None:
    op.execute(
        "CREATE TABLE IF NOT EXISTS deleted_runs (id text PRIMARY KEY, name text NOT NULL, "
        "deleted_at timestamptz NOT NULL DEFAULT now(), purged_at timestamptz)"
    )
    op.execute(
        "CREATE TABLE IF NOT EXISTS imported_archives (run_id text PRIMARY KEY, "
        "sha256 text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())"
    )
    op.execute("ALTER TABLE datasets ADD COLUMN IF NOT EXISTS deleted_at timestamptz")


def _turn() -> None:
    op.execute(f"SELECT pg_advisory_lock({_CREATION_LOCK})")
    try:
        op.execute(_PROMISE)
        has_rows = op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM runs)"))
        if has_rows:
            op.execute("ALTER TABLE ledger VALIDATE CONSTRAINT ledger_first_runs")
        op.execute(_SWAP)
    finally:
        op.execute(f"SELECT pg_advisory_unlock({_CREATION_LOCK})")


def upgrade() -> None:
    """Turn the ledger, step by step, each step in a transaction of its own."""
    with op.get_context().autocommit_block():
        _tables()
        op.execute(_FUNCTION)
        op.execute(
            "CREATE OR REPLACE TRIGGER ledger_partition AFTER INSERT ON runs "
            "FOR EACH ROW EXECUTE FUNCTION ledger_partition()"
        )
        kind = "SELECT relkind FROM pg_class WHERE oid = 'ledger'::regclass"
        if op.get_bind().scalar(sa.text(kind)) != "p":
            _turn()


def downgrade() -> None:
    """One plain table again: copies every row under an exclusive lock."""
    op.execute("DROP TRIGGER ledger_partition ON runs")
    op.execute("DROP FUNCTION ledger_partition()")
    op.execute("ALTER TABLE ledger RENAME TO ledger_parted")
    op.execute("ALTER TABLE ledger_parted RENAME CONSTRAINT ledger_pkey TO ledger_parted_pkey")
    unique = "run_id_lease_id_ordinal_kind_level_number_fence_key"
    op.execute(f"ALTER TABLE ledger_parted RENAME CONSTRAINT ledger_{unique} TO lp_{unique}")
    for index in ("late_idx", "run_id_ordinal_apply_seq_idx"):
        op.execute(f"ALTER INDEX ledger_{index} RENAME TO ledger_parted_{index}")
    op.execute("CREATE TABLE ledger (LIKE ledger_parted INCLUDING DEFAULTS)")
    op.execute("INSERT INTO ledger SELECT * FROM ledger_parted")
    op.execute("DROP TABLE ledger_parted")
    for statement in filter(str.strip, _KEYS.split(";")):
        op.execute(statement)
    op.drop_column("datasets", "deleted_at")
    op.drop_table("imported_archives")
    op.drop_table("deleted_runs")
