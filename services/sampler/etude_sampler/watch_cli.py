"""`etude watch`: a run as it goes; a live view on a terminal, a line a change elsewhere.

Reads the public API again and again; `watch_view` makes pictures and lines of what it reads. It
outlives a sampler that is away for a while.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from etude_client import EtudeClient, EtudeError
from etude_client.errors import AnswerInvalid, ApiError, Unreachable

from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    RunName,
    Url,
    as_data,
    fail,
    find_run,
    reason_of,
    say_json,
)
from .watch_view import Look, Watched

_TIMEOUT_S = 10.0


def watch(  # noqa: PLR0917 - options of a command, by name
    run: RunName,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    until_version: Annotated[
        int | None, typer.Option(min=0, help="End when the run has this policy version.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Watch a run live, until Ctrl-C.

    In a pipe or a file: one line whenever something changed; with --json one object a line. A
    sampler that is away is asked again until it is back. Ctrl-C is the usual end: exit code 0.

    Example: `etude watch first --until-version 100`
    """
    watched = Watched(until_version=until_version, once=once)
    try:
        with _interruptible() as asked, _client(url, key) as client:
            run_id = find_run(client, run).id
            looks = _looks(client, run_id, watched, every_s=every, asked=asked)
            if as_json:
                _as_lines(looks, watched, as_json=True)
            elif sys.stdout.isatty() and not once:
                _live(looks, watched, every_s=every)
            else:
                _as_lines(looks, watched, as_json=False)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except EtudeError as error:
        raise fail(reason_of(error, url)) from error


@contextmanager
def _client(url: str, key: str | None) -> Iterator[EtudeClient]:
    try:
        made = EtudeClient(url, api_key=key, timeout_s=_TIMEOUT_S, max_attempts=1)
    except ValueError as error:
        raise fail(str(error)) from error
    with made as client:
        yield client


@contextmanager
def _interruptible() -> Iterator[Event]:
    """SIGTERM ends it as Ctrl-C does, so that the terminal gets its cursor back.

    The event is set too: an interrupt that arrives inside a finaliser is swallowed there.
    """
    asked = Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _looks(
    client: EtudeClient, run_id: str, watched: Watched, *, every_s: float, asked: Event
) -> Iterator[Look | str]:
    """What is there, or why nothing could be seen; the first look must succeed.

    Raises:
        EtudeError: the run is gone, the key is refused, or the first look failed.
    """
    first = True
    while not asked.is_set():
        try:
            run = client.get_run(run_id)
            look = Look(datetime.now(UTC), run, client.get_curriculum(run_id))
        except (Unreachable, AnswerInvalid, ApiError) as error:
            if first or (isinstance(error, ApiError) and error.status < 500):
                raise
            yield str(error)
        else:
            first = False
            yield look
            if watched.is_over(look):
                return
        asked.wait(every_s)


def _as_lines(looks: Iterator[Look | str], watched: Watched, *, as_json: bool) -> None:
    """One line or object a change on standard output; gaps are said on standard error."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    away = False
    for look in looks:
        if isinstance(look, str):
            if not away:
                errors.print(f"no answer, asking on: {look}", markup=False)
            away = True
            continue
        if away:
            errors.print("the sampler answers again", markup=False)
            away = False
        if not watched.changed(look):
            continue
        if as_json:
            run, view = as_data(look.run), as_data(look.view)
            say_json({"at": look.at.isoformat(timespec="seconds"), "run": run, "curriculum": view})
        else:
            typer.echo(watched.line(look))
        sys.stdout.flush()


def _live(looks: Iterator[Look | str], watched: Watched, *, every_s: float) -> None:
    """A picture that is drawn anew in place; the last one stays when it ends."""
    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        for look in looks:
            if isinstance(look, str):
                watched.trouble = look
            else:
                watched.trouble = None
                watched.changed(look)
            live.update(watched.picture(every_s=every_s), refresh=True)
