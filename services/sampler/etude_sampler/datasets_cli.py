"""`etude datasets list | show | delete`: thin over the public API. `datasets/` imports them."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_options import DEFAULT_URL, AsJson, Key, Url, as_data, client_at, find_dataset, say_json

DatasetName = Annotated[str, typer.Argument(help="Name or id of the dataset.", show_default=False)]


def list_(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List datasets with their tasks.

    Example: `etude datasets list`
    """
    with client_at(url, key) as client:
        found = list(client.iter_datasets())
    if as_json:
        say_json({"datasets": [as_data(one) for one in found]})
        return
    for one in found:
        typer.echo(f"{one.id}  {one.name}  {one.num_train} train, {one.num_held_out} held out")


def show(
    dataset: DatasetName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Show a dataset: its split and its sources.

    Example: `etude datasets show mine`
    """
    with client_at(url, key) as client:
        found = find_dataset(client, dataset)
    if as_json:
        say_json(found)
        return
    typer.echo(
        f"{found.id}  {found.name}  {found.num_tasks} tasks: {found.num_train} train, "
        f"{found.num_held_out} held out; since {found.created_at[:19].replace('T', ' ')}"
    )
    for source, num in found.sources.items():
        typer.echo(f"  {source}: {num}")


def delete(
    dataset: DatasetName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Delete a dataset that no run uses.

    Example: `etude datasets delete mine`
    """
    with client_at(url, key) as client:
        done = client.delete_dataset(find_dataset(client, dataset).id)
    typer.echo(done.model_dump_json() if as_json else f"{done.id}  {done.name}  deleted")
