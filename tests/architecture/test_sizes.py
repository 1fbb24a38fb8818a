"""Files stay small: 300 lines of Python, 80 of Lua, and the training loop on one page.

A longer file says why in one of its first lines: `Over 80 lines: <reason>`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.tree import ROOT, tracked_files

CAPS = {".py": 300, ".lua": 80}
SPECIAL = {Path("services/trainer/etude_trainer/loop.py"): 150}


def cap(path: Path) -> int:
    """The most lines that a file may have."""
    return SPECIAL.get(path.relative_to(ROOT), CAPS[path.suffix])


def _says_why(path: Path) -> bool:
    head = path.read_text("utf-8").splitlines()[:6]
    return any(re.search(rf"Over {cap(path)} lines: \w", line) for line in head)


@pytest.mark.parametrize("suffix", CAPS)
def test_no_file_is_over_its_cap(suffix: str) -> None:
    sizes = {path: len(path.read_bytes().splitlines()) for path in tracked_files(suffix)}
    over = {
        str(path.relative_to(ROOT)): f"{size} lines, at most {cap(path)}"
        for path, size in sizes.items()
        if size > cap(path) and not _says_why(path)
    }
    assert not over
