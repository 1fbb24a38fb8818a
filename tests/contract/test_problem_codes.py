"""The list of problem codes is closed: each is raised by a service or reserved."""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path

import pytest

from etude_proto.v1 import ProblemCode
from etude_sampler import errors
from etude_sampler.errors import SamplerError
from support.contract import ROOT

SAMPLER = ROOT / "services" / "sampler" / "etude_sampler"
RESERVED = {ProblemCode.CARGO_FULL}
"""Kept for later; documented by `proto/generate.py`."""

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SamplerError) and kind is not SamplerError
]


@functools.cache
def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_codes_are_raised_or_reserved() -> None:
    raised = {kind.code for kind in CLASSES} | {SamplerError.code}
    assert raised | RESERVED == set(ProblemCode)
    assert raised & RESERVED == set()


def test_a_code_has_one_class_and_one_status() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(codes) == len(set(codes))
    assert all(400 <= kind.status < 600 and kind.title for kind in CLASSES)


def test_only_busy_answers_are_retryable() -> None:
    retryable = {kind.code for kind in CLASSES if kind.retryable}
    assert {kind.code for kind in CLASSES if kind.status in (429, 503)} <= retryable
    assert all(
        kind.status in (429, 503) or kind.code is ProblemCode.IDEMPOTENCY_IN_PROGRESS
        for kind in CLASSES
        if kind.retryable
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_raised_somewhere(kind: type[SamplerError]) -> None:
    users = [path for path in SAMPLER.rglob("*.py") if path != SAMPLER / "errors.py"]
    assert any(kind.__name__ in _names(path) for path in users)
