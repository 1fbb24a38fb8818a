"""`etude keys ...`: make, list and revoke API keys, over the public API.

The key is made here and shown once; the sampler gets its digest (`etude_proto.keys`).
"""

from __future__ import annotations

import re
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Column, Table

from etude_client.paging import all_items
from etude_proto.keys import new_key
from etude_proto.v1 import MAX_PAGE, KeyCreate, Scope

from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    as_data,
    client_at,
    fail,
    first_fault,
    paper,
    say,
    say_json,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OPTIONS = {"runs": "--run", "ttl_s": "--expires", "label": "--label", "scopes": "--scope"}


def seconds_of(text: str) -> int:
    """`90s`, `15m`, `12h` or `30d` as seconds.

    Raises:
        typer.BadParameter: none of these.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None or int(found[1]) == 0:
        told = f"{text!r} is no time such as 90s, 15m, 12h or 30d"
        raise typer.BadParameter(told, param_hint="'--expires'")
    return int(found[1]) * _UNITS[found[2]]


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
    read: looking. Each scope may also look. The key alone is on standard output.

    Example: `etude keys create --label rollout-1 --scope rollout --run first --expires 30d`
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
        raise fail(first_fault(error, names=_OPTIONS)) from error
    with client_at(url, key) as client:
        stored = client.create_key(body)
    if as_json:
        say_json({**as_data(stored), "key": made.text})
        return
    say(f"{stored.id} for {stored.label}; keep the key, it is not shown again:")
    typer.echo(made.text)


def list_(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List keys, ended ones too; the keys themselves are not kept.

    Example: `etude keys list`
    """
    with client_at(url, key) as client:
        found = list(all_items(lambda at: client.list_keys(limit=MAX_PAGE, cursor=at)))
    if as_json:
        say_json({"keys": [as_data(one) for one in found]})
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
    paper().print(table)


def revoke(
    key_id: Annotated[str, typer.Argument(help="`key_...`, see `etude keys list`.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """End a key now; every replica refuses it within three seconds.

    Example: `etude keys revoke key_0123456789abcdef01234567`
    """
    with client_at(url, key) as client:
        ended = client.revoke_key(key_id)
    typer.echo(ended.model_dump_json() if as_json else f"{ended.id} ended {ended.revoked_at}")
