"""A part is one new file and one line of the table; the page shows the package that is tested."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from etude_sampler.curriculum import PRESETS
from etude_sampler.curriculum.parts import PartConfig
from etude_sampler.curriculum.table import BUILT_IN
from support.markdown import page
from support.plugins import EXAMPLE
from support.tree import ROOT, tracked_files

CURRICULUM = ROOT / "services" / "sampler" / "etude_sampler" / "curriculum"
TABLE, PRESET_TABLE = CURRICULUM / "table.py", CURRICULUM / "presets.py"


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    """The text of every module of the services and the contract."""
    return {
        path: path.read_text("utf-8")
        for path in tracked_files(".py")
        if path.relative_to(ROOT).parts[0] in ("services", "proto")
    }


def _file(part: type[PartConfig]) -> Path:
    return Path(inspect.getfile(part))


@pytest.mark.parametrize("part", BUILT_IN, ids=lambda part: part.__name__)
def test_a_part_has_a_file_of_its_own_that_one_line_names(
    part: type[PartConfig], sources: dict[Path, str]
) -> None:
    """Nothing else in the services knows the file or the class."""
    path = _file(part)
    module = ".".join(path.relative_to(CURRICULUM).with_suffix("").parts)
    (line,) = [line for line in TABLE.read_text("utf-8").splitlines() if f'"{module}"' in line]
    assert line == f'    "{module}",'
    own_class = re.compile(rf"\b{part.__name__}\b")
    users = [
        one
        for one, text in sources.items()
        if part.__name__ in text and one != path and own_class.search(text)
    ]
    assert users == []


def test_no_two_parts_share_a_file_and_no_file_of_a_part_is_forgotten() -> None:
    files = [_file(part) for part in BUILT_IN]
    assert len(set(files)) == len(files)
    folders = {path.parent for path in files}
    named = re.compile(r"^    name: ClassVar\[str\] = ", re.MULTILINE)
    with_a_name = {
        path
        for folder in folders
        for path in folder.glob("*.py")
        if named.search(path.read_text("utf-8"))
    }
    assert with_a_name == set(files)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_one_entry_of_at_most_eight_lines(preset: str) -> None:
    """From its name to the next one's; nothing else in the services needs a line."""
    text = PRESET_TABLE.read_text("utf-8")
    (entry,) = re.findall(
        rf'^        "{preset}": (?:.|\n)*?^(?=        "|    \}})', text, re.MULTILINE
    )
    assert 1 <= entry.count("\n") <= 8


def test_the_page_shows_the_files_that_are_installed() -> None:
    shown = page("docs/how-to/your-strategy.md")
    assert shown.blocks("python") == [(EXAMPLE / "my_strategy.py").read_text("utf-8")]
    assert shown.blocks("toml") == [(EXAMPLE / "pyproject.toml").read_text("utf-8")]
