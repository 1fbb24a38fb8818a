"""What the doctor found: one line about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Etude works, but not as well or as safely as it should."""
    FAIL = "fail"
    """Etude does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing, as it was found."""

    name: str
    level: Level
    detail: str
    mend: str = ""
    """What to do about it; empty if nothing."""


def ok(name: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(name, Level.OK, detail)


def warn(name: str, detail: str, mend: str) -> Finding:
    """Works, but should be better."""
    return Finding(name, Level.WARN, detail, mend)


def bad(name: str, detail: str, mend: str) -> Finding:
    """Does not work."""
    return Finding(name, Level.FAIL, detail, mend)
