"""Migrations: brings a database to the newest revision (`etude migrate`, or on embedded start).

Releases overlap while replicas are replaced, so revisions only add (expand), and what nobody reads
any more goes with a later release (contract): a replica keeps serving on a schema newer than it
knows. Only starting on one is refused, and starting on an older one, which lacks what is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ...database_url import libpq_url, sync_url

_LOCK = 0x657475646500
"""Advisory lock: two replicas that start together migrate one after the other."""
_OLDEST_SERVER = 14
"""`DETACH PARTITION ... CONCURRENTLY` is from there on."""


_PATIENCE = "2s"
"""Longest wait for a lock that others would queue behind (our choice)."""
_ATTEMPTS = 150
_PAUSE_S = 0.2


class SchemaFault(Exception):
    """A database that this version cannot serve from; one sentence that says what to do."""


class DatabaseUnreachable(SchemaFault):
    """Nobody answers at the address, or the session is refused."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(__package__) / "migrations"))
    return config


def _run(url: str, revision: str, *, down: bool) -> None:
    _refuse_server(url)
    engine = sa.create_engine(sync_url(url), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": _LOCK})
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            try:
                refuse_newer(connection)
                connection.execute(sa.text(f"SET lock_timeout = '{_PATIENCE}'"))
                connection.commit()
                _patiently(
                    partial(command.downgrade if down else command.upgrade, config, revision)
                )
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(:k)"), {"k": _LOCK})
                connection.commit()
    finally:
        engine.dispose()


def _patiently(migrate: Callable[[], None]) -> None:
    """Try again from the revision that gave up on a lock; the ones before are done.

    Who waits for a strong lock makes everybody else wait behind him: hence in short tries.
    """
    for left in range(_ATTEMPTS - 1, -1, -1):
        try:
            migrate()
        except sa.exc.OperationalError as error:
            if left == 0 or not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database at `url`; safe to call from several processes at once.

    Raises:
        DatabaseUnreachable: nobody answers.
        SchemaFault: the database is not one for Etude, or newer than this version.
    """
    _run(url, revision, down=False)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision` (`base` for an empty one)."""
    _run(url, revision, down=True)


def head() -> str:
    """The newest revision this package knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the package ships no migrations")
    return revision


@cache
def known() -> tuple[str, ...]:
    """All revisions of this package, newest first."""
    return tuple(one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions())


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks something that this version reads."""
    return revision is None or (revision in known() and revision != known()[0])


def current(connection: sa.Connection) -> str | None:
    """The revision of the database behind `connection`; None if never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_server(url: str) -> None:
    """Look at a server with the driver itself: SQLAlchemy cannot even connect to SQL_ASCII.

    Raises:
        DatabaseUnreachable: nobody answers.
        SchemaFault: too old a server, or an encoding that cannot hold every text.
    """
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10) as connection:
            major = connection.info.server_version // 10000
            encoding = connection.info.parameter_status("server_encoding")
            name = connection.info.dbname
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise DatabaseUnreachable(f"PostgreSQL does not answer: {reason}") from error
    if major < _OLDEST_SERVER:
        raise SchemaFault(
            f"the server is PostgreSQL {major}; Etude needs {_OLDEST_SERVER} or newer"
        )
    if encoding != "UTF8":
        raise SchemaFault(
            f"database {name!r} has encoding {encoding}, and Etude needs UTF8: "
            "create one with createdb --encoding=UTF8 --template=template0"
        )


def refuse_newer(connection: sa.Connection) -> str | None:
    """The revision of a database that this version can work on, also after migrating it.

    Raises:
        SchemaFault: the schema is newer than this version.
    """
    revision = current(connection)
    if revision is not None and revision not in known():
        raise SchemaFault(
            f"the database is at schema {revision}, and this version of Etude knows up to "
            f"{known()[0]}: upgrade Etude"
        )
    return revision


def check(url: str) -> None:
    """Whether this version may start on a database.

    Raises:
        DatabaseUnreachable: nobody answers.
        SchemaFault: it needs `etude migrate`, or another version.
    """
    _refuse_server(url)
    engine = sa.create_engine(sync_url(url), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            revision = refuse_newer(connection)
    finally:
        engine.dispose()
    if is_behind(revision):
        where = "empty" if revision is None else f"at schema {revision}"
        raise SchemaFault(
            f"the database is {where}, and this version needs {known()[0]}: run `etude migrate`"
        )
