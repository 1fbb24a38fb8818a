"""Migrations: brings a database to the newest revision (`etude migrate`, or on embedded start)."""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

_LOCK = 0x657475646500
"""Advisory lock: two replicas that start together migrate one after the other."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(__package__) / "migrations"))
    return config


def sync_url(url: str) -> str:
    """The psycopg form of an asyncpg URL."""
    return url.replace("postgresql+asyncpg://", "postgresql+psycopg://", 1)


def _run(url: str, revision: str, *, down: bool) -> None:
    engine = sa.create_engine(sync_url(url), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": _LOCK})
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            try:
                (command.downgrade if down else command.upgrade)(config, revision)
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(:k)"), {"k": _LOCK})
                connection.commit()
    finally:
        engine.dispose()


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database at `url`; safe to call from several processes at once.

    Raises:
        sqlalchemy.exc.OperationalError: the database cannot be reached.
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


def current(connection: sa.Connection) -> str | None:
    """The revision of the database behind `connection`; None if never migrated."""
    return MigrationContext.configure(connection).get_current_revision()
