"""Every fenced block says what it is; commands say who runs them, or why nobody does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib

import pytest
import yaml

from support.blocks import COMMANDS, DATA, WORDS, Block, blocks_of
from support.markdown import Page, pages
from support.tree import ROOT

BLOCKS = [block for one in pages() for block in blocks_of(one)]
LOOKS_LIKE_A_COMMAND = re.compile(
    r"^\s*\$?\s*(\.venv/bin/|etude|make |curl |docker |kubectl |pip |python|torchrun |export )"
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_says_what_it_is_and_who_runs_it(block: Block) -> None:
    assert block.language in (*COMMANDS, *DATA, *WORDS), f"{block.where}: {block.language!r}"
    assert block.fault() is None, f"{block.where}: {block.fault()}"
    if block.mark is not None and block.mark.startswith("run by: "):
        assert (ROOT / block.mark.removeprefix("run by: ")).is_file(), block.where
    if block.language in WORDS:
        for line in block.body.splitlines():
            assert not LOOKS_LIKE_A_COMMAND.match(line), f"{block.where}: a command? {line}"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_what_is_not_run_is_at_least_well_formed(block: Block) -> None:
    if block.language == "json":
        assert json.loads(block.body) is not None
    if block.language == "toml":
        tomllib.loads(block.body)
    if block.language == "yaml":
        yaml.safe_load(block.body)
    if block.language == "python":
        ast.parse(block.body)
    if block.language == "bash":
        done = subprocess.run(["bash", "-n"], input=block.body, text=True, check=False)
        assert done.returncode == 0


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
def test_no_block_is_overlooked(one: Page) -> None:
    fences = re.findall(r"^\s*(?:```|~~~)", one.text, re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(one)), f"{one.name}: indented, or not closed"


@pytest.mark.parametrize(
    ("mark", "is_good"),
    [
        (None, False),
        ("run", True),
        ("run by: tests/unit/x.py", True),
        ("not run: needs a GPU", True),
        ("not run", False),
        ("not run: ", False),
        ("runs", False),
    ],
)
def test_the_comment_has_a_fixed_form(mark: str | None, is_good: bool) -> None:
    block = Block("x.md", 1, "bash", mark, "etude runs list\n")
    assert (block.fault() is None) is is_good
