"""Our Markdown pages as data: tables, fenced blocks, links, anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.tree import ROOT, tracked_files

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    path: Path

    @property
    def name(self) -> str:
        """Path below the repository's root."""
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        """Without fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """Fenced blocks of a language."""
        return [body for word, body in _FENCE.findall(self.text) if word == language]

    def links(self) -> list[str]:
        """Targets of links, addresses elsewhere left out."""
        found = re.findall(r"\]\(([^)\s]+)\)", self.prose)
        return [target for target in found if "://" not in target]

    def anchors(self) -> set[str]:
        """What a link may name after `#`: headings as the forges spell them."""
        heads = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        kept = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
        return {head.strip().replace(" ", "-") for head in kept}

    def code(self) -> list[str]:
        """Words in backticks."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    def tables(self) -> list[list[dict[str, str]]]:
        """Tables as rows by column name."""
        tables = []
        for block in re.findall(r"(?:^\|.*\n?)+", self.prose, re.MULTILINE):
            lines = [_CELL.split(line.strip().strip("|")) for line in block.splitlines()]
            head = [cell.strip() for cell in lines[0]]
            rows = [
                dict(zip(head, (cell.strip() for cell in line), strict=True)) for line in lines[2:]
            ]
            tables.append(rows)
        return tables

    def rows(self, column: str) -> list[dict[str, str]]:
        """Rows of all tables that have this column."""
        return [row for table in self.tables() for row in table if column in row]


def page(name: str) -> Page:
    """One page by its path below the root."""
    return Page(ROOT / name)


def pages() -> list[Page]:
    """All pages of ours."""
    return [Page(path) for path in tracked_files(".md")]


def bare(cell: str) -> str:
    """A cell without backticks; a dash is nothing."""
    text = cell.replace("`", "").strip()
    return "" if text == "-" else text
