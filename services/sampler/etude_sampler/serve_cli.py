"""`etude serve` and `etude migrate`: a sampler, on its own servers or on configured ones.

`embedded` starts PostgreSQL and Valkey, `app` is what is served. Bad settings are one line and exit
code 2.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from pydantic import ValidationError

from etude_client import tracing

from .api.heads import BoundedHeads
from .cli_options import AsJson, fail, say
from .embedded import EmbeddedServerError, Keeper, keep, start_embedded
from .errors import DependencyUnavailable
from .settings import Settings
from .store.postgres.engine import create_engine
from .store.postgres.keys import PostgresKeys
from .store.postgres.migrate import DatabaseUnreachable, SchemaFault, check, upgrade

_WORKER_PATIENCE_S = 60
"""A worker that has not answered for so long is replaced. uvicorn's 5 s are less than a busy
machine takes to import one: there it would start workers and end them for ever."""
_NO_KEYS = "set ETUDE_API_KEYS: {host} can be reached from other machines, and there is no key yet"


def num_live_keys(settings: Settings) -> int:
    """Keys in the database that work now; 0 if it cannot be asked."""

    async def count() -> int:
        assert settings.database_url is not None
        engine = create_engine(settings.database_url, pool_size=1, timeout_s=5.0)
        try:
            return len((await PostgresKeys(engine).ring()).live)
        except DependencyUnavailable:
            return 0
        finally:
            await engine.dispose()

    return asyncio.run(count())


def read_settings(**given: object) -> Settings:
    """Settings from the environment, with the options that were given on top."""
    try:
        return Settings.model_validate(
            {**Settings().model_dump(), **{k: v for k, v in given.items() if v is not None}}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise fail(f"ETUDE_{name}: {first['msg']}") from error


def _port_is_taken(settings: Settings) -> bool:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            return True
    return False


def _embedded(settings: Settings) -> tuple[Settings, Keeper | None]:
    """Start embedded servers for the URLs that are not configured; migrate what is ours."""
    if settings.database_url is not None and settings.redis_url is not None:
        try:
            check(settings.database_url)
        except DatabaseUnreachable as error:
            say(f"{error}; serving starts, and answers 503 until it does")
        except SchemaFault as error:
            raise fail(str(error)) from error
        return settings, None
    if settings.database_url is not None or settings.redis_url is not None:
        raise fail("set both ETUDE_DATABASE_URL and ETUDE_REDIS_URL, or neither (embedded)")
    try:
        servers = start_embedded(settings.data_dir)
    except (EmbeddedServerError, OSError) as error:
        raise fail(str(error)) from error
    try:
        upgrade(servers.database_url)
    except SchemaFault as error:
        servers.stop()
        raise fail(str(error)) from error
    urls = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    return settings.model_copy(update=urls), keep(servers, say=say)


def serve(
    host: Annotated[str | None, typer.Option(help="Address [ETUDE_HOST, 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port [ETUDE_PORT, 8321].")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve [ETUDE_WORKERS, 1].")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the embedded servers [ETUDE_DATA_DIR, .etude].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the sampler; without URLs, on its own PostgreSQL and Valkey under ./.etude/.

    Logs go to standard error. With --json, its address comes on standard output first. SIGTERM or
    Ctrl-C stops all of it. Exit code 1 if a server of its own ended by itself.

    Example: `etude serve --port 8400 --data-dir /data/etude`
    """
    settings = read_settings(host=host, port=port, workers=workers, data_dir=data_dir)
    try:
        keys = settings.accepted_keys()
    except OSError as error:
        raise fail(f"ETUDE_API_KEYS_FILE: {error}") from error
    try:
        if settings.traces_url is not None:
            tracing.check()
    except tracing.TracingError as error:
        raise fail(str(error)) from error
    needs_key = not settings.is_loopback and not keys
    if needs_key and settings.database_url is None and not settings.data_dir.exists():
        raise fail(_NO_KEYS.format(host=settings.host))
    if _port_is_taken(settings):
        raise fail(f"port {settings.port} of {settings.host} is taken (ETUDE_PORT)")
    settings, keeper = _embedded(settings)
    try:
        if needs_key and not num_live_keys(settings):
            raise fail(_NO_KEYS.format(host=settings.host))
        _export(settings)
        where = f"http://{settings.host}:{settings.port}"
        kind = "embedded PostgreSQL and Valkey" if keeper else "configured servers"
        if as_json:
            told = {"url": where, "embedded": keeper is not None, "workers": settings.workers}
            print(json.dumps(told), flush=True)
        say(f"etude sampler on {where} ({kind}); Ctrl-C stops it")
        uvicorn.run(
            "etude_sampler.app:create_app_from_env",
            factory=True,
            http=BoundedHeads,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            timeout_worker_healthcheck=_WORKER_PATIENCE_S,
        )
    finally:
        if keeper is not None:
            keeper.close()
    if keeper is not None and keeper.failure is not None:
        say(f"etude: {keeper.failure}")
        raise typer.Exit(1)


def _export(settings: Settings) -> None:
    """Hand the settings to the serving processes, which read the environment."""
    for name in ("host", "port", "workers", "database_url", "redis_url"):
        os.environ[f"ETUDE_{name.upper()}"] = str(getattr(settings, name))


def migrate(as_json: AsJson = False) -> None:
    """Bring the database of ETUDE_DATABASE_URL to the newest schema.

    An embedded database is migrated by `etude serve`. May run twice, and while samplers serve.

    Example: `ETUDE_DATABASE_URL=postgresql://etude@db/etude etude migrate`
    """
    settings = read_settings()
    if settings.database_url is None:
        raise fail("set ETUDE_DATABASE_URL (an embedded database is migrated by `etude serve`)")
    try:
        upgrade(settings.database_url)
    except SchemaFault as error:
        raise fail(str(error)) from error
    except Exception as error:
        raise fail(f"migration failed: {str(error).splitlines()[0]}") from error
    text = "the database is at the newest schema"
    typer.echo(json.dumps({"schema": "newest"}) if as_json else text)
