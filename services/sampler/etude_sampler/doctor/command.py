"""The command: what to look at, from settings and environment, and how it is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.console import Console

from ..cli_options import AsJson, Key, say_json
from ..operating import DataDir
from ..settings import Settings
from .database import database
from .finding import Finding, Level, bad, ok
from .machine import disk, embedded, port, versions
from .redis import redis
from .services import engine, sampler

_MARKS: Final = {
    Level.OK: "[green]ok  [/]",
    Level.WARN: "[yellow]warn[/]",
    Level.FAIL: "[red]FAIL[/]",
}


def doctor(
    data_dir: DataDir = None,
    url: Annotated[
        str | None,
        typer.Option(envvar="ETUDE_SAMPLER_URL", help="A sampler that runs, to be asked too."),
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(envvar="ETUDE_VLLM_URL", help="A vLLM engine, to be asked too.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Look at everything that Etude stands on; name what is wrong and how to mend it.

    Settings, disk, port, PostgreSQL (reached, let in, durable, schema), Redis or Valkey (commands,
    eviction), clocks; with their addresses a sampler and a vLLM engine. Nothing is changed, but
    that PostgreSQL writes a temporary table, which is rolled back. Exit code 0 if all works, 1 if
    something does not.

    Example: `etude doctor --url http://127.0.0.1:8321`
    """
    found: list[Finding] = []
    for one in _findings(data_dir, url, engine_url, key):
        found.append(one)
        if not as_json:
            _show(one)
    num_bad = sum(one.level is Level.FAIL for one in found)
    if as_json:
        say_json({"ok": num_bad == 0, "findings": [_json(one) for one in found]})
    elif num_bad:
        Console(stderr=True).print(f"{num_bad} of {len(found)} need mending", markup=False)
    raise typer.Exit(1 if num_bad else 0)


def _findings(
    data_dir: Path | None, url: str | None, engine_url: str | None, key: str | None
) -> Iterator[Finding]:
    yield versions()
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors():
            name = "ETUDE_" + "_".join(str(part) for part in one["loc"]).upper()
            yield bad(
                "settings", f"{name}: {one['msg']}", "correct it (docs/reference/settings.md)"
            )
        return
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    yield from _keys(settings)
    yield port(settings.host, settings.port)
    for name in ("ETUDE_WEIGHTS_ROOT", "ETUDE_TRAINER_DIR"):
        if folder := os.environ.get(name):
            yield disk(Path(folder), variable=name)
    yield from _servers(settings)
    if url is not None:
        yield from sampler(url, key)
    if engine_url is not None:
        yield engine(engine_url)


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        num_keys = len(settings.accepted_keys())
    except OSError as error:
        yield bad("settings", f"ETUDE_API_KEYS_FILE: {error.strerror}", "make it readable for us")
        return
    yield ok("settings", f"{_given()} variables, {num_keys} configured keys")


def _given() -> int:
    names = {f"ETUDE_{name.upper()}" for name in Settings.model_fields}
    return len(names & os.environ.keys())


def _servers(settings: Settings) -> Iterator[Finding]:
    if (settings.database_url is None) != (settings.redis_url is None):
        mend = "set both ETUDE_DATABASE_URL and ETUDE_REDIS_URL, or neither (embedded)"
        yield bad("settings", "only one of the two servers is configured", mend)
    if settings.database_url is None and settings.redis_url is None:
        yield disk(settings.data_dir)
        yield from embedded(settings.data_dir)
        return
    looks: list[Callable[[], list[Finding]]] = []
    if settings.database_url is not None:
        address, most = settings.database_url, settings.pool_size * settings.workers
        looks.append(lambda: database(address, connections=most))
    if settings.redis_url is not None:
        hot = settings.redis_url
        looks.append(lambda: redis(hot))
    for look in looks:
        yield from look()


def _show(one: Finding) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(_MARKS[one.level], end=" ")
    console.print(f"{one.name}: {one.detail}", markup=False)
    if one.mend:
        console.print(f"       -> {one.mend}", markup=False)


def _json(one: Finding) -> dict[str, str]:
    return {"name": one.name, "level": one.level, "detail": one.detail, "mend": one.mend}
