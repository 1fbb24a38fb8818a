"""One import from its source to its summary: what every command of `cli` does in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import shorten

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from etude_client import EtudeClient, EtudeError
from etude_client.sources.upload import Summary, upload
from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import DatasetUnusable, Row, RowFault
from etude_proto.v1 import DatasetCreate

from ..cli_options import fail, reason_of, say_json
from .report import fault_lines, report_document, summary_lines, write_report

MAX_FAILURE = 400
"""Longest failure that is said, in characters; an answer of a server may be long."""

ALL_GOOD, SOME_REFUSED = 0, 1


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import goes, and what is said about it."""

    dataset: str
    url: str
    api_key: str | None
    report: Path | None
    as_json: bool = False


def _no_shape() -> Shape | None:
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """Where an import comes from."""

    name: str
    """For messages."""
    count: Callable[[], int | None]
    """An upper bound of the rows; None: not known."""
    rows: Callable[[], Iterable[Row | RowFault]]
    shape: Callable[[], Shape | None] = _no_shape
    """What the rows were recognised as, once the first is read."""


def run_import(source: Source, target: Target, *, limit: int | None = None) -> int:
    """Send the source's rows and say what became of them; the exit code.

    Raises:
        DatasetUnusable: the source cannot be read, or has no row.
        EtudeError: the sampler cannot be reached, or refuses.
        OSError: the report cannot be written.
    """
    num_rows = source.count()
    if num_rows == 0:
        raise DatasetUnusable(f"{source.name} has no rows")
    request = _dataset_request(target.dataset)
    if target.report is not None and not target.report.parent.is_dir():
        raise DatasetUnusable(f"no folder {target.report.parent} for the report")
    summary = Summary()
    with _client(target) as client:
        try:
            client.livez()  # not retried: a wrong address is told at once
        except EtudeError as error:
            raise fail(reason_of(error, target.url)) from error
        dataset = client.create_dataset(request)
        rows = islice(source.rows(), limit)
        try:
            with _progress(source.name, _at_most(num_rows, limit)) as on_progress:
                upload(client, dataset.id, rows, summary=summary, on_progress=on_progress)
        except (EtudeError, DatasetUnusable) as error:
            raise DatasetUnusable(_cut_short(error, summary)) from error
        finally:
            if target.report is not None:
                write_report(target.report, dataset, summary, source.shape())
    for text in fault_lines(summary.faults):
        typer.echo(text, err=True)
    if not summary.num_accepted:
        raise DatasetUnusable(f"{source.name}: none of {summary.num_rows} rows could be imported")
    if target.as_json:
        say_json(report_document(dataset, summary, source.shape()))
    else:
        for text in summary_lines(dataset, summary, source.shape()):
            typer.echo(text)
    return SOME_REFUSED if summary.faults else ALL_GOOD


def _at_most(num_rows: int | None, limit: int | None) -> int | None:
    return limit if num_rows is None else min(num_rows, limit or num_rows)


def _client(target: Target) -> EtudeClient:
    try:
        return EtudeClient(target.url, api_key=target.api_key)
    except ValueError as error:
        raise DatasetUnusable(str(error)) from error


def _dataset_request(name: str) -> DatasetCreate:
    try:
        return DatasetCreate(name=name)
    except ValidationError as error:
        raise DatasetUnusable(
            f"{name!r} cannot name a dataset (letters, digits, space and ._:/-, beginning with a "
            "letter or digit): give --dataset NAME"
        ) from error


def _cut_short(error: Exception, summary: Summary) -> str:
    if not summary.num_accepted:
        return str(error)
    return (
        f"{error}; {summary.num_accepted} rows were imported before, and running the same import "
        "again goes on after them"
    )


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[Summary], None]]:
    """A progress bar on the standard error stream, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"importing {name}", total=total)
        yield lambda summary: progress.update(bar, completed=summary.num_rows)
        progress.update(bar, total=progress.tasks[0].completed)


@contextmanager
def failure_in_one_line() -> Iterator[None]:
    """What ends an import as the one line that the command says."""
    try:
        yield
    except (DatasetUnusable, EtudeError, OSError) as error:
        text = shorten(str(error) or type(error).__name__, MAX_FAILURE, placeholder=" …")
        raise fail(text) from error


def name_of(file: Path) -> str:
    """A file's name without what says how it is written: the name of its dataset."""
    packed = file.suffix in {".gz", ".zst"}
    return Path(file.stem).stem if packed else file.stem
