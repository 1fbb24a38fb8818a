"""What pages show of the files of `docs/examples` is what stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.markdown import page
from support.tree import ROOT

FILES = sorted((ROOT / "docs" / "examples").glob("*/*.py"))


@pytest.mark.parametrize("name", ["docs/how-to/frameworks.md"])
def test_a_page_shows_the_file_itself(name: str) -> None:
    texts = [path.read_text("utf-8") for path in FILES]
    blocks = page(name).blocks("python")
    assert blocks
    for block in blocks:
        assert any(block.strip() in text for text in texts), block


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_a_page_leads_to_every_file(path: Path) -> None:
    pages = (ROOT / "docs").rglob("*.md")
    named = str(path.relative_to(ROOT / "docs"))
    folder = str(path.parent.relative_to(ROOT / "docs"))
    assert any(named in text or folder in text for text in (one.read_text() for one in pages))
