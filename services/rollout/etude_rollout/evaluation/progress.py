"""Tells a person how far an evaluation is. Made by `cli.py`, called by `running.py`."""

from __future__ import annotations

import time
from pathlib import Path

import typer

SAY_EVERY_S = 10.0


class Progress:
    """Says on standard error how far an evaluation is, at most every ten seconds."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._began: tuple[float, int] | None = None
        self._said_at = 0.0

    def __call__(self, num_answered: int, num_items: int, num_right: int) -> None:
        """Called before the first answer and after every one."""
        now = time.monotonic()
        told = f"{num_answered} of {num_items} answered, {num_right} right"
        if self._began is None:
            self._began = (now, num_answered)
            told += f"; answers go to {self._out}"
        elif num_answered < num_items:
            if now - self._said_at < SAY_EVERY_S:
                return
            began_at, num_before = self._began
            left_s = (now - began_at) / (num_answered - num_before) * (num_items - num_answered)
            told += f", about {left_s / 60:.0f} min left" if left_s >= 60 else ""
        self._said_at = now
        typer.echo(told, err=True)
