"""One database, three spellings: as people write its URL, and as each driver wants it.

`settings` takes any of them and keeps asyncpg's; migrations and the doctor ask for libpq's.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

ASYNC: Final = "postgresql+asyncpg"
_SPELLINGS: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg", ASYNC})


def async_url(given: str) -> str:
    """The URL for asyncpg: libpq's `sslmode` is its `ssl`.

    Raises:
        ValueError: it is no URL of a PostgreSQL database; the message does not repeat it.
    """
    try:
        url = sa.make_url(given)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("not a URL; write postgresql://user:password@host/name") from None
    if url.drivername not in _SPELLINGS:
        raise ValueError(f"{url.drivername}:// is not PostgreSQL; write postgresql://...")
    return _spelled(url, ASYNC, ("sslmode", "ssl"))


def sync_url(url: str) -> str:
    """The same for SQLAlchemy with psycopg."""
    return _spelled(sa.make_url(url), "postgresql+psycopg", ("ssl", "sslmode"))


def libpq_url(url: str) -> str:
    """The same for psycopg itself, and for `psql`."""
    return _spelled(sa.make_url(url), "postgresql", ("ssl", "sslmode"))


def _spelled(url: URL, driver: str, renamed: tuple[str, str]) -> str:
    before, after = renamed
    query = {after if name == before else name: value for name, value in url.query.items()}
    text = url.set(drivername=driver, query=query).render_as_string(hide_password=False)
    place, mark, rest = text.partition("?")
    return place + mark + rest.replace("+", "%20")  # libpq takes a plus sign for itself
