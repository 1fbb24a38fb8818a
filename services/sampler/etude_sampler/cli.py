"""The `etude` command: serve, migrate, import, runs, tasks, strategies, simulate.

Bad settings or arguments: one line and exit code 2. `--json` prints what scripts read.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console

from .api.heads import BoundedHeads
from .archives.cli import register as register_archives
from .datasets.cli import import_app
from .doctor.command import doctor
from .embedded import EmbeddedServerError, Keeper, keep, start_embedded
from .keys_cli import keys_app, num_live_keys
from .rebuild_cli import rebuild
from .replay_cli import replay
from .retention_cli import register as register_retention
from .runs_cli import runs_app, strategies
from .settings import Settings
from .simulate_cli import simulate_command
from .store.postgres.migrate import DatabaseUnreachable, SchemaFault, check, upgrade
from .travel_cli import register as register_travel

app = typer.Typer(
    name="etude",
    help="Etude decides what a tool-using LLM practises next.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(import_app, name="import")
app.add_typer(runs_app, name="runs")
register_archives(runs_app)
register_travel(runs_app)
register_retention(app, runs_app)
app.add_typer(keys_app, name="keys")
app.command()(strategies)
app.command("simulate")(simulate_command)
app.command()(rebuild)
app.command()(replay)
app.command()(doctor)


_WORKER_PATIENCE_S = 60
"""A worker that has not answered for so long is replaced. uvicorn's 5 s are less than a busy
machine takes to import one: there it would start workers and end them for ever."""
_NO_KEYS = "set ETUDE_API_KEYS: {host} can be reached from other machines, and there is no key yet"


def say(message: str) -> None:
    """Print one line for people, on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)


def fail(message: str) -> typer.Exit:
    """Say one line and leave with exit code 2."""
    say(f"etude: {message}")
    return typer.Exit(2)


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


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address [ETUDE_HOST, 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port [ETUDE_PORT, 8321].")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve [ETUDE_WORKERS, 1].")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the embedded servers [ETUDE_DATA_DIR, .etude].")
    ] = None,
) -> None:
    """Run the sampler; without URLs, on its own PostgreSQL and Valkey under ./.etude/."""
    settings = read_settings(host=host, port=port, workers=workers, data_dir=data_dir)
    try:
        keys = settings.accepted_keys()
    except OSError as error:
        raise fail(f"ETUDE_API_KEYS_FILE: {error}") from error
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


@app.command()
def migrate() -> None:
    """Bring the database of ETUDE_DATABASE_URL to the newest schema."""
    settings = read_settings()
    if settings.database_url is None:
        raise fail("set ETUDE_DATABASE_URL (an embedded database is migrated by `etude serve`)")
    try:
        upgrade(settings.database_url)
    except SchemaFault as error:
        raise fail(str(error)) from error
    except Exception as error:
        raise fail(f"migration failed: {str(error).splitlines()[0]}") from error
    typer.echo("the database is at the newest schema")


def main() -> None:
    """Entry point of the `etude` command."""
    app()
