"""For commands that work on the servers themselves: which ones, and how failures are said.

Used by `archives.cli`, `replay_cli` and `retention_cli`. The servers are the configured ones, or
the embedded pair: that of a running `etude serve`, else started for the command and stopped after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from .cli_options import fail
from .embedded import EmbeddedServerError, start_embedded
from .embedded.joining import running_urls
from .nearest import unknown
from .ports.catalog import Catalog, RunRow
from .settings import Settings
from .store.postgres import migrate

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded servers [ETUDE_DATA_DIR, .etude].")
]


@contextmanager
def operated(data_dir: Path | None = None) -> Iterator[Settings]:
    """Settings with the URLs of servers that answer and whose schema this version knows.

    Raises:
        CommandFailed: there are none, or they need `etude migrate` (exit code 2).
    """
    settings = _settings(data_dir)
    if (settings.database_url is None) != (settings.redis_url is None):
        raise fail("set both ETUDE_DATABASE_URL and ETUDE_REDIS_URL, or neither (embedded)")
    if settings.database_url is not None:
        _check_schema(settings.database_url)
        yield settings
        return
    if not (settings.data_dir / "postgres").is_dir():
        raise fail(
            f"no database: {settings.data_dir} is not a folder of `etude serve`; "
            "set ETUDE_DATA_DIR, or ETUDE_DATABASE_URL and ETUDE_REDIS_URL"
        )
    try:
        joined = running_urls(settings.data_dir)
        if joined is not None:
            _check_schema(joined[0])
            yield settings.model_copy(update=dict(zip(_URLS, joined, strict=True)))
            return
        with start_embedded(settings.data_dir) as servers:
            migrate.upgrade(servers.database_url)
            urls = (servers.database_url, servers.redis_url)
            yield settings.model_copy(update=dict(zip(_URLS, urls, strict=True)))
    except (EmbeddedServerError, migrate.SchemaFault) as error:
        raise fail(str(error)) from error


_URLS = ("database_url", "redis_url")
_PAGE = 200


def _settings(data_dir: Path | None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise fail(f"ETUDE_{name}: {first['msg']}") from error
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


def _check_schema(url: str) -> None:
    try:
        migrate.check(url)
    except migrate.SchemaFault as error:
        raise fail(str(error)) from error


async def find_row(catalog: Catalog, name_or_id: str) -> RunRow:
    """A run by id, or the only one of that name. Raises `RunNotFound`, `CommandFailed`."""
    if name_or_id.startswith("run_"):
        return await catalog.get_run(name_or_id)
    found: list[RunRow] = []
    names: list[str] = []
    after: str | None = None
    while page := await catalog.list_runs(after=after, limit=_PAGE):
        names += [row.name for row in page]
        found += [row for row in page if row.name == name_or_id]
        after = page[-1].id
    if not found:
        raise fail(unknown("run", name_or_id, names, otherwise="there is none yet"))
    if len(found) > 1:
        ids = ", ".join(row.id for row in found)
        raise fail(f"{len(found)} runs are called {name_or_id!r}: {ids}; give an id")
    return found[0]
