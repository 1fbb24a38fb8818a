"""Up from the first release on a filled database, with that release still at work on it.

`first_release.sql` was written by the first release's code (`support/first_release.py` says how),
`support/first_release_sql.py` holds its statements, word for word.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from etude_sampler.store.postgres import migrate
from etude_sampler.store.postgres.archive import plain_engine, statistics_digest
from etude_sampler.store.postgres.engine import raw
from support import first_release_sql as old
from support.first_release_replica import old_replica, plain
from support.sampler_app import query, sampler_app
from support.sampler_app_replica import free_port
from support.servers import Servers
from support.waiting import wait_until
from support.workload import report_of

DUMP = Path(__file__).with_name("first_release.sql")
TABLES = (
    *("datasets", "tasks", "runs", "ledger", "task_statistics", "receipts", "policy_versions"),
    *("predictions", "decisions", "idempotency"),
)


@pytest.fixture
def first_release(empty_database_url: str) -> str:
    """A database as the first release left it."""
    with psycopg.connect(plain(empty_database_url)) as connection:
        connection.execute(DUMP.read_bytes())
    return empty_database_url


def contents(url: str) -> dict[str, object]:
    """Every row of the first release's tables, in its columns."""
    with psycopg.connect(plain(url)) as connection:
        connection.execute("SET search_path = public")
        return {
            table: connection.execute(
                f"SELECT {COLUMNS[table]} FROM {table} ORDER BY 1, 2, 3".encode()
            ).fetchall()
            for table in TABLES
        }


def _columns() -> dict[str, str]:
    """The columns of the first release, from its dump."""
    found: dict[str, str] = {}
    for part in DUMP.read_text("utf-8").split("CREATE TABLE public.")[1:]:
        name, _, rest = part.partition(" (")
        lines = [line.split()[0] for line in rest.partition(");")[0].splitlines() if line.strip()]
        found[name] = ", ".join(lines)
    return found


COLUMNS = _columns()


async def digests(url: str) -> dict[str, str]:
    """Digest of the statistics of each run."""
    engine = plain_engine(url, timeout_s=10.0)
    try:
        async with raw(engine) as connection:
            await connection.execute("SET search_path = public")
            ids = [row["id"] for row in await connection.fetch("SELECT id FROM runs")]
            return {one: await statistics_digest(connection, one) for one in ids}
    finally:
        await engine.dispose()


async def test_the_first_releases_data_is_intact_and_goes_on(
    first_release: str, valkey: RunningServer
) -> None:
    """Every row and every bit is there after the upgrade; receipts, draws and reports work."""
    before, bits = contents(first_release), await digests(first_release)
    migrate.upgrade(first_release)
    assert contents(first_release) == before
    assert await digests(first_release) == bits
    assert all(len(rows) > 0 for name, rows in before.items() if name != "predictions")  # type: ignore[arg-type]
    async with sampler_app(first_release, valkey.url) as api:
        runs = (await api.get("/v1/runs")).json()["items"]
        names = {run["name"]: run["id"] for run in runs}
        assert set(names) == {"training", "follower"}
        await api.loaded(names["training"])
        batch = await api.lease(names["training"], 4)
        receipt = await api.reported(batch, report_of(batch), key="new")
        assert [group.attempts[0].verdict for group in receipt.groups] == ["applied"] * 4
        await api.loaded(names["follower"])
        assert (await api.post(f"/v1/runs/{names['follower']}/resume")).status_code == 200
        late = (await api.view(names["training"])).num_groups_late
        assert late == 4, "the first release's late report is still counted as late"
        history = (await api.get(f"/v1/runs/{names['follower']}/history")).json()["items"]
        assert [point["policy_version"] for point in history] == [1, 2, 3]


async def test_the_release_before_works_on_while_the_database_is_migrated(
    first_release: str,
) -> None:
    """Its cached statements keep their meaning at every step; nothing of it is lost or held up."""
    async with old_replica(first_release) as replica:
        for _ in range(8):  # generic plans are made at the sixth use
            await replica.report()
        migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, first_release))
        while not migrating.done():
            await replica.report()
            await replica.fold()
        await migrating
        for _ in range(8):
            await replica.report()
        assert await replica.fold() == 32
        await replica.look()
        rows = query(
            first_release,
            "SELECT count(*), count(DISTINCT apply_seq) FROM ledger WHERE fence > %s",
            1 << 50,
        )
        assert rows == [(replica.num_rows, replica.num_rows)]
        assert replica.longest_s < 5.0


async def test_the_release_before_creates_runs_on_the_new_schema(first_release: str) -> None:
    """A run that it creates gets its partition, and its reports go there."""
    migrate.upgrade(first_release)
    async with old_replica(first_release) as replica:
        await replica.create("run_0123456789ab")
        for _ in range(8):
            await replica.report()
        assert await replica.fold() == 32
        late = [[2**40], ["lease_late"], [0], ["none"], [0], [0], [1], ["late"], ["x"], [0], [0]]
        rest = [[0], [0.5], [1], [1], [1], [0.5], [0.5], [1], [b""], [b""], [b""], ["{}"]]
        await replica.connection.execute(old.INSERT_LEDGER, replica.run_id, *late, *rest)
    found = query(first_release, "SELECT tableoid::regclass::text, count(*) FROM ledger GROUP BY 1")
    assert ("ledger_run_0123456789ab", 33) in found


async def test_a_long_read_does_not_make_the_migration_hold_reports_up(
    first_release: str,
) -> None:
    """The migration waits for the reader in short tries; reports pass between them."""
    async with old_replica(first_release) as replica:
        with psycopg.connect(plain(first_release)) as reader:
            reader.execute("SELECT count(*) FROM public.ledger")
            migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, first_release))
            waiting = (
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
                "WHERE NOT l.granted AND c.relname = 'ledger'"
            )

            async def held() -> bool:
                return query(first_release, waiting) == [(1,)]

            await wait_until(held, what="the migration waits for the reader")
            for _ in range(3):
                await replica.report()
            assert not migrating.done()
        await migrating
        await replica.report()
        assert replica.longest_s < 5.0
    assert query(first_release, "SELECT relkind::text FROM pg_class WHERE relname = 'ledger'") == [
        ("p",)
    ]


async def test_a_run_created_after_an_interrupted_migration(first_release: str) -> None:
    """The promise of a migration that died does not keep new runs from reporting."""
    migrate.upgrade(first_release, "0005")
    with psycopg.connect(plain(first_release)) as connection:
        connection.execute("SET search_path = public")
        module = import_module(f"{migrate.__package__}.migrations.versions.0006_ledger_partitions")
        for name in ("_FUNCTION", "_PROMISE"):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS deleted_runs (id text PRIMARY KEY, "
                "name text NOT NULL, deleted_at timestamptz NOT NULL DEFAULT now(), "
                "purged_at timestamptz)"
            )
            connection.execute(str(getattr(module, name)).encode())
        connection.execute(
            "CREATE TRIGGER ledger_partition AFTER INSERT ON runs FOR EACH ROW "
            "EXECUTE FUNCTION ledger_partition()"
        )
    async with old_replica(first_release) as replica:
        await replica.create("run_0123456789ab")
        await replica.report()
        migrate.upgrade(first_release)
        await replica.report()
    found = query(first_release, "SELECT DISTINCT tableoid::regclass::text FROM ledger")
    assert found == [("ledger_first",)]


def test_down_and_up_again(first_release: str) -> None:
    """Nothing of the first release is lost on the way."""
    before = contents(first_release)
    migrate.upgrade(first_release)
    migrate.downgrade(first_release, "0001")
    assert contents(first_release) == before
    migrate.upgrade(first_release)
    assert contents(first_release) == before


def _etude(command: str, url: str, redis: str) -> tuple[int, str]:
    """The exit code of a command that must refuse, and what it says."""
    env = {"ETUDE_DATABASE_URL": url, "ETUDE_REDIS_URL": redis, "ETUDE_PORT": str(free_port())}
    done = CliRunner().invoke(app, [command], env=env)
    return done.exit_code, done.stderr.strip()


async def test_a_newer_schema_is_served_on_but_not_started_on(
    database_url: str, valkey: RunningServer
) -> None:
    """A running replica stays ready while the next release migrates; a new one refuses."""
    async with sampler_app(database_url, valkey.url) as api:
        with psycopg.connect(plain(database_url)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert (await api.get("/readyz")).status_code == 200
    for command in ("serve", "migrate"):
        code, said = _etude(command, database_url, valkey.url)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert "at schema 9999" in said
        assert "upgrade Etude" in said


async def test_an_older_schema_asks_for_the_migration(
    first_release: str, database_url: str, valkey: RunningServer
) -> None:
    """Who starts says so; who runs is not ready."""
    code, said = _etude("serve", first_release, valkey.url)
    assert (code, len(said.splitlines())) == (2, 1), said
    assert "run `etude migrate`" in said
    async with sampler_app(database_url, valkey.url) as api:
        with psycopg.connect(plain(database_url)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        answer = await api.get("/readyz")
        assert answer.status_code == 503
        assert "etude migrate" in answer.text


def test_a_database_that_cannot_hold_every_text_is_refused(
    servers: Servers, valkey: RunningServer
) -> None:
    """SQL_ASCII takes any byte for a letter; the sentence says how to make a right one."""
    dsn, name = servers.postgres.dsn, "ascii_only"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    try:
        code, said = _etude("migrate", servers.postgres.url_of(name), valkey.url)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert "encoding SQL_ASCII" in said
        assert "--encoding=UTF8" in said
    finally:
        servers.postgres.drop_database(name)
