"""Answers on disk: one JSON line each, written as they come, so that a second run goes on.

The first line says what was asked of what (`Header`); answers of another model or other settings
are refused, never mixed in. A line is written whole or, if the process dies in it, cut off by the
next run. One process writes at a time. `asking.py` appends, `cli.py` opens, `gate.py` reads.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from .items import EvaluationError, Split

FORMAT: Literal["etude-eval/1"] = "etude-eval/1"
NOT_ASKED = "not_asked"
"""Finish reason of an item that the model cannot be asked, for example because its prompt is
longer than the context. It counts as wrong."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class Header(_Line):
    """What was asked of what. Two files with the same `asked` can be compared item by item."""

    format: Literal["etude-eval/1"] = FORMAT
    benchmark: str
    data: str
    """Rows and checker, as the benchmark names them."""
    model: str
    weights: str
    """Digest of the model's files, or the label that a remote engine gives its weights."""
    engine: str
    """With its precision: `transformers-5.23/fp32`."""
    precision: str
    """Of the engine, and how the checkpoint is quantised, if it is: `bf16`, `bf16, awq`."""
    seed: int
    temperature: float
    max_new_tokens: int
    prompt: dict[str, JsonValue]
    """How tasks are shown."""

    def differences(self, other: Header) -> list[str]:
        """Fields in which two headers differ, as `seed is 1 there and 0 here`; where the model lies
        does not matter."""
        mine, theirs = self.model_dump(exclude={"model"}), other.model_dump(exclude={"model"})
        return [
            f"{name} is {theirs[name]!r} there and {value!r} here"
            for name, value in mine.items()
            if theirs[name] != value
        ]


class Answer(_Line):
    """One item, answered and judged."""

    id: str
    domain: str
    split: Split | None = None
    text: str
    """The whole turn, decoded without special tokens, the prefill included."""
    turns: list[list[str]] | None = None
    """Of an episode: what was said to each of the user's turns; `text` is then empty."""
    token_ids: list[int]
    """What the policy sampled."""
    num_prompt_tokens: int
    finish_reason: str
    """`stop`, `length`, `max_turns`, `tool_limit` or `not_asked`."""
    engine: str
    """Which engine in which precision gave it."""
    is_right: bool
    reason: str = ""
    """Why it is wrong, in the checker's words."""


class AnswerFile:
    """A file that is appended to. Make it with `open`; it holds a lock until `close`."""

    def __init__(self, path: Path, stream: IO[bytes], answers: dict[str, Answer]) -> None:
        self.path = path
        self._stream = stream
        self.answers = answers
        """By item id; what the file held, and what was added."""

    @classmethod
    def open(cls, path: Path, header: Header) -> AnswerFile:
        """Make the file, or go on with one that holds answers to the same header.

        Raises:
            EvaluationError: it belongs to another evaluation, another process writes to it, or it
                cannot be read or written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise EvaluationError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            raise EvaluationError(f"another evaluation writes to {path}") from error
        try:
            _make_whole(stream, header)
            found, answers = read_answers(path)
            differences = header.differences(found)
            if differences:
                raise EvaluationError(
                    f"{path} holds answers of another evaluation ({'; '.join(differences)}): "
                    "give another --out, or remove it"
                )
        except BaseException:
            stream.close()
            raise
        return cls(path, stream, {answer.id: answer for answer in answers})

    def add(self, answer: Answer) -> None:
        """Append one answer.

        Raises:
            EvaluationError: the disk refuses it.
        """
        try:
            _write_line(self._stream, answer)
        except OSError as error:
            raise EvaluationError(f"cannot write {self.path}: {error.strerror}") from error
        self.answers[answer.id] = answer

    def close(self) -> None:
        """Give the lock back."""
        self._stream.close()


def read_answers(path: Path) -> tuple[Header, list[Answer]]:
    """Header and answers of a file; a last line without its end is left out.

    Raises:
        EvaluationError: there is no such file, or a line of it is not what it should be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from error
    lines = content.split(b"\n")[:-1]
    try:
        header = Header.model_validate_json(lines[0] if lines else b"")
    except ValidationError as error:
        raise EvaluationError(f"{path} is no file of answers ({FORMAT})") from error
    answers: dict[str, Answer] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]
            raise EvaluationError(f"{path} line {number}: {fault['msg']}") from error
        if answer.id in answers:
            raise EvaluationError(f"{path} line {number}: {answer.id} is answered twice")
        answers[answer.id] = answer
    return header, list(answers.values())


def rewrite(path: Path, header: Header, answers: Sequence[Answer]) -> None:
    """Replace a file by one with these lines, whole or not at all."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as stream:
        for line in (header, *answers):
            _write_line(stream, line)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def common(answers: Iterable[Answer], ids: Iterable[str]) -> list[Answer]:
    """The answers to these items, in the items' order."""
    by_id = {answer.id: answer for answer in answers}
    return [by_id[each] for each in ids if each in by_id]


def _make_whole(stream: IO[bytes], header: Header) -> None:
    """Write the head if it is missing, and cut off a line in which a process died.

    A file that does not begin as ours is left as it is; reading refuses it.
    """
    stream.seek(0)
    content = stream.read()
    head = _encoded(header)
    if content.startswith(head[: head.index(b",")]) or head.startswith(content):
        stream.truncate(content.rfind(b"\n") + 1)
        if b"\n" not in content:
            _write_line(stream, header)


def _encoded(line: BaseModel) -> bytes:
    return line.model_dump_json().encode() + b"\n"


def _write_line(stream: IO[bytes], line: BaseModel) -> None:
    """One write, so that a signal leaves all of the line or nothing of it."""
    content = _encoded(line)
    if stream.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
