"""Fenced blocks of our pages with what is said about running them, in a comment right before.

`<!-- run -->`: `test_docs_run` runs it. `<!-- run by: tests/... -->`: that test does.
`<!-- not run: reason -->`: nothing does. Used by `test_docs_blocks` and `test_docs_run`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from support.markdown import Page

COMMANDS = ("bash", "python")
"""Languages of blocks that somebody is meant to run."""
DATA = ("json", "toml", "yaml")
WORDS = ("text",)
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"run|run by: \S+|not run: \S.*")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    mark: str | None
    body: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"

    def fault(self) -> str | None:
        """What is wrong with what is said about it."""
        if self.language not in COMMANDS:
            return None if self.mark is None else f"a comment about running {self.language!r}"
        if self.mark is None or not _MARK.fullmatch(self.mark):
            forms = "`run`, `run by: FILE` or `not run: REASON`"
            return f"commands without a comment right before: {forms}, not {self.mark!r}"
        return None

    def plain_commands(self) -> list[list[str]] | None:
        """Words of its lines, if each is a call of `etude` that needs no shell; else None."""
        found = []
        for line in self.body.splitlines():
            if not line.strip():
                continue
            if any(sign in line.split(" #")[0] for sign in "$|&;<>`\\"):
                return None
            words = shlex.split(line, comments=True)
            if not words or words[0].removeprefix(".venv/bin/") != "etude":
                return None
            found.append(words[1:])
        return found


def blocks_of(page: Page) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.text
    return [
        Block(
            page.name,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["mark"],
            found["body"],
        )
        for found in _BLOCK.finditer(text)
    ]
