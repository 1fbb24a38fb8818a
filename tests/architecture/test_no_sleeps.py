"""Tests wait for conditions: only `support/waiting.py` may sleep, and the rehearsal's own."""

from __future__ import annotations

import ast
from pathlib import Path

from support.tree import ROOT, tracked_files

ALLOWED = {Path("tests/support/waiting.py"), Path("tests/rehearsal/waiting.py")}


def sleeps(path: Path) -> list[int]:
    """Lines on which something called `sleep` with more than zero is called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) or getattr(node.func, "id", None)) == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]


def test_tests_do_not_sleep() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in tracked_files(".py")
        if path.is_relative_to(ROOT / "tests") and path.relative_to(ROOT) not in ALLOWED
        if (lines := sleeps(path))
    }
    assert not found
