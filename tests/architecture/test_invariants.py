"""Each of the ten invariants has a test with its number in the name, where the page says."""

from __future__ import annotations

import ast

import pytest

from support.markdown import bare, page
from support.tree import ROOT

ROWS = page("docs/concepts/invariants.md").rows("invariant")


def test_there_are_ten() -> None:
    assert [int(row["#"]) for row in ROWS] == list(range(1, 11))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["invariant"])
def test_an_invariant_is_tried(row: dict[str, str]) -> None:
    path = ROOT / bare(row["broken on purpose in"])
    stem = f"test_invariant_{row['#']}_"
    functions = (
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert any(name.startswith(stem) for name in functions), f"{path.name} has no {stem}..."
