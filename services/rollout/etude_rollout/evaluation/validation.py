"""Results of a run's policy over time, as a file that trainers and people may read.

One JSON line an evaluation, oldest first; nobody is told, and no statistics move. The mean is the
benchmark's widest mean that could be taken, or the share of right answers over the chosen domains,
each weighed by its size. Written by `cli.py` with `--run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .items import EvaluationError
from .summary import Summary

FORMAT: Literal["etude-validation/1"] = "etude-validation/1"


class ValidationLine(BaseModel):
    """One evaluation of one policy version."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    format: Literal["etude-validation/1"] = FORMAT
    run: str
    policy_version: int | None
    """Null where the model's directory does not say and nobody did."""
    benchmark: str
    data: str
    """Rows and checker; means over other data must not be compared."""
    measure: str
    """Which mean: the name of a group, or `domains` with their names."""
    mean: float
    """In 0 to 1."""
    num_answered: int
    is_complete: bool
    seed: int
    precision: str


def validation_line(summary: Summary) -> ValidationLine:
    """The line of an evaluation.

    Raises:
        EvaluationError: nothing is answered, or the evaluation names no run.
    """
    if summary.run is None:
        raise EvaluationError("an evaluation without a run has no place among a run's results")
    answered = [domain for domain in summary.domains if domain.share is not None]
    if not answered:
        raise EvaluationError("nothing is answered yet")
    if summary.groups:
        measure, mean = summary.groups[-1].name, summary.groups[-1].share
    else:
        total = sum(domain.num_items for domain in answered)
        mean = sum(domain.num_items * (domain.share or 0.0) for domain in answered) / total
        measure = "domains " + ", ".join(domain.domain for domain in answered)
    return ValidationLine(
        run=summary.run,
        policy_version=summary.policy_version,
        benchmark=summary.asked.benchmark,
        data=summary.asked.data,
        measure=measure,
        mean=mean,
        num_answered=sum(domain.num_answered for domain in summary.domains),
        is_complete=summary.is_complete,
        seed=summary.asked.seed,
        precision=summary.asked.precision,
    )


def append(path: Path, line: ValidationLine) -> None:
    """Add a line; an evaluation that is told again (a resumed one) takes its earlier line's place.

    Raises:
        EvaluationError: the file cannot be read or written.
    """
    kept = [each for each in read(path) if _what(each) != _what(line)] if path.exists() else []
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text("".join(each.model_dump_json() + "\n" for each in (*kept, line)))
        new.replace(path)
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error.strerror}") from error


def read(path: Path) -> list[ValidationLine]:
    """All lines of a file.

    Raises:
        EvaluationError: it cannot be read, or a line is something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(ValidationLine.model_validate_json(line))
        except ValidationError as error:
            raise EvaluationError(f"{path} line {number} is no line of {FORMAT}") from error
    return found


def _what(line: ValidationLine) -> tuple[object, ...]:
    return line.run, line.policy_version, line.data, line.measure, line.seed, line.precision
