"""`etude keys ...`: make, list and revoke API keys, over the public API.

The key is made here and shown once; the sampler gets its digest (`etude_proto.keys`).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from etude_proto.keys import new_key
from etude_proto.v1 import Key as ApiKey
from etude_proto.v1 import KeyCreate, Scope

from .cli_options import DEFAULT_URL, AsJson, Key, Url, client_at
from .errors import DependencyUnavailable
from .settings import Settings
from .store.postgres.engine import create_engine
from .store.postgres.keys import PostgresKeys

keys_app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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


def seconds_of(text: str) -> int:
    """`90s`, `15m`, `12h` or `30d` as seconds.

    Raises:
        typer.BadParameter: none of these.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no time such as 90s, 15m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


@keys_app.command()
def create(  # noqa: PLR0917 - options, by name
    label: Annotated[str, typer.Option(help="Who or what uses the key.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be repeated.")],
    run: Annotated[
        list[str] | None, typer.Option(help="Id or name of a run it is for; repeatable [all].")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 90s, 15m, 12h, 30d [never].")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once: only its digest is kept.

    admin: everything. trainer: training batches and versions. rollout: prompt batches and reports.
    read: looking. Each scope may also look.
    """
    made = new_key()
    try:
        body = KeyCreate(
            id=made.id,
            digest=made.digest,
            label=label,
            scopes=list(dict.fromkeys(scope)),
            runs=run,
            ttl_s=None if expires is None else seconds_of(expires),
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = {"runs": "run", "ttl_s": "expires"}.get(str(first["loc"][0]), str(first["loc"][0]))
        typer.echo(f"etude: --{name}: {first['msg']}", err=True)
        raise typer.Exit(2) from error
    with client_at(url, key) as client:
        stored = client.create_key(body)
    if as_json:
        typer.echo(json.dumps({**stored.model_dump(mode="json"), "key": made.text}))
        return
    Console(stderr=True, soft_wrap=True).print(
        f"{stored.id} for {stored.label}; keep the key, it is not shown again:", markup=False
    )
    typer.echo(made.text)


@keys_app.command("list")
def list_(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List keys, ended ones too; the keys themselves are not kept."""
    found: list[ApiKey] = []
    with client_at(url, key) as client:
        cursor: str | None = None
        while True:
            page = client.list_keys(limit=1000, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
    if as_json:
        for one in found:
            typer.echo(one.model_dump_json())
        return
    ids = Column("id", no_wrap=True, min_width=max((len(one.id) for one in found), default=2))
    table = Table(ids, "begins", "label", "scopes", "runs", "ends", "last used")
    for one in found:
        ends = f"revoked {one.revoked_at}" if one.revoked_at else one.expires_at or "never"
        runs = "all" if one.runs is None else ", ".join(one.runs)
        scopes = ", ".join(one.scopes)
        table.add_row(
            one.id, one.prefix, one.label, scopes, runs, ends, one.last_used_at or "never"
        )
    Console().print(table)


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="`key_...`, see `etude keys list`.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """End a key now; every replica refuses it within three seconds."""
    with client_at(url, key) as client:
        ended = client.revoke_key(key_id)
    typer.echo(ended.model_dump_json() if as_json else f"{ended.id} ended {ended.revoked_at}")
