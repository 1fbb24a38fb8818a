"""PostgreSQL: reached, let in, durable, at the right schema, with the same idea of the time."""

from __future__ import annotations

import time
from typing import Final

import psycopg
import sqlalchemy as sa

from ..database_url import libpq_url, sync_url
from ..store.postgres import migrate
from .finding import Finding, bad, ok, warn

SKEW_S: Final = 2.0
"""Difference of clocks that is worth a word: leases live by one server's, keys by another's."""
_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")
_CAUSES: Final = (
    ("password authentication failed", "wrong user or password", "correct ETUDE_DATABASE_URL"),
    ("no password supplied", "it asks for a password", "put one into ETUDE_DATABASE_URL"),
    ("no pg_hba.conf entry", "it does not let us in from here", "allow this host in pg_hba.conf"),
    ("does not exist", "no such database or role", "create it: createdb, createuser"),
    ("Connection refused", "nobody listens there", "start PostgreSQL, or correct the address"),
    ("No such file or directory", "no socket there", "start PostgreSQL, or correct the address"),
    ("could not translate host name", "no such host", "correct ETUDE_DATABASE_URL"),
    ("Name or service not known", "no such host", "correct ETUDE_DATABASE_URL"),
    ("failed to resolve host", "no such host", "correct ETUDE_DATABASE_URL"),
    ("timeout expired", "no answer", "look at the network and its firewalls"),
    ("invalid response to SSL", "what answers there is not PostgreSQL", "correct the address"),
    ("too many clients", "it has no connection left", "raise max_connections"),
    ("starting up", "it is starting up or recovering", "wait"),
)
"""What PostgreSQL or libpq says, what that means, and what to do."""


def database(url: str, *, connections: int, timeout_s: int = 5) -> list[Finding]:
    """All about the database at a URL.

    Args:
        connections: how many the sampler's processes may open together.
    """
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=timeout_s, autocommit=True) as session:
            found = [_server(session)]
            found += _durability(session)
            found += _room(session, connections)
            found.append(_clock(session))
            found += _writable(session)
    except psycopg.Error as error:
        return [_refused(str(error))]
    except (ValueError, sa.exc.ArgumentError) as error:  # before anything is asked
        return [bad("postgres", f"no address: {error}", "correct ETUDE_DATABASE_URL")]
    return [*found, *_schema(url)]


def _refused(said: str) -> Finding:
    line = " ".join(said.split())
    for word, cause, mend in _CAUSES:
        if word in line:
            return bad("postgres", f"{cause}: {line}", mend)
    return bad("postgres", line, "correct ETUDE_DATABASE_URL, or start PostgreSQL")


def _value(session: psycopg.Connection, setting: str) -> str:
    row = session.execute("SELECT current_setting(%s)", (setting,)).fetchone()
    assert row is not None
    return str(row[0])


def _server(session: psycopg.Connection) -> Finding:
    info = session.info
    where = f"PostgreSQL {info.server_version // 10000} at {info.host or 'a socket'}, {info.dbname}"
    row = session.execute("SELECT pg_is_in_recovery()").fetchone()
    if row is not None and row[0]:
        return bad("postgres", f"{where} is a read-only replica", "use the primary's address")
    return ok("postgres", where)


def _durability(session: psycopg.Connection) -> list[Finding]:
    off = [name for name in _DURABLE if _value(session, name) == "off"]
    if not off:
        return [ok("durability", "what is committed survives a crash")]
    mend = f"switch on {', '.join(off)}: PostgreSQL is the truth"
    return [warn("durability", f"{', '.join(off)} off: a crash loses what was committed", mend)]


def _room(session: psycopg.Connection, connections: int) -> list[Finding]:
    most = int(_value(session, "max_connections"))
    reserved = int(_value(session, "superuser_reserved_connections"))
    if most - reserved >= connections:
        return [ok("connections", f"{most} allowed, one sampler takes up to {connections}")]
    return [
        warn(
            "connections",
            f"{most} allowed, and one sampler takes up to {connections}",
            "raise max_connections, or lower ETUDE_POOL_SIZE or ETUDE_WORKERS",
        )
    ]


def _writable(session: psycopg.Connection) -> list[Finding]:
    """Whether it takes a megabyte: of a temporary table, which is rolled back."""
    try:
        with session.transaction(force_rollback=True):
            session.execute("SET LOCAL statement_timeout = '5s'")
            session.execute(
                "CREATE TEMPORARY TABLE etude_doctor ON COMMIT DROP AS "
                "SELECT generate_series(1, 30000)"
            )
    except psycopg.errors.DiskFull as error:
        detail = f"PostgreSQL's disk is full: {error.diag.message_primary}"
        return [bad("database disk", detail, "make room on the disk of its data directory")]
    except psycopg.errors.ReadOnlySqlTransaction:
        mend = "use the primary's address, and switch default_transaction_read_only off"
        return [bad("database disk", "PostgreSQL takes no writes", mend)]
    except psycopg.errors.InsufficientPrivilege:
        detail = "not tried: the role may make no temporary tables"
        return [warn("database disk", detail, "GRANT TEMPORARY ON DATABASE, to have it tried")]
    except psycopg.Error as error:
        detail = " ".join(str(error).split())
        return [bad("database disk", f"a write fails: {detail}", "look at PostgreSQL's log")]
    return [ok("database disk", "it takes writes")]


def _clock(session: psycopg.Connection) -> Finding:
    before = time.time()
    row = session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return skew("PostgreSQL", float(row[0]), before, time.time())


def skew(who: str, told_s: float, before_s: float, after_s: float) -> Finding:
    """A server's clock against ours, which was read before and after."""
    off = max(before_s - told_s, told_s - after_s, 0.0)
    if off > SKEW_S:
        detail = f"{who}'s clock and this machine's differ by {off:.1f} s"
        return warn("clock", detail, "synchronise both (NTP)")
    return ok("clock", f"{who}'s agrees with this machine's")


def _schema(url: str) -> list[Finding]:
    try:
        migrate.check(url)
    except migrate.SchemaFault as error:
        return [bad("schema", str(error), "etude migrate")]
    except sa.exc.SQLAlchemyError as error:
        return [bad("schema", str(error).splitlines()[0], "grant the role its own schema")]
    engine = sa.create_engine(sync_url(url), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            revision = migrate.current(connection)
    finally:
        engine.dispose()
    return [ok("schema", f"revision {revision}, as this version wants it")]
