"""Small figures as text: numbers, bars and curves. Pure; used by `view.py` and `lines.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉"


def number(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash where there is none yet."""
    return "-" if value is None else format(value, form)


def percent(value: float | None) -> str:
    """A share of 1 as whole per cent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def bar(value: float | None, width: int) -> str:
    """A value in [0, 1] as a bar of at most `width` characters."""
    eighths = round(8 * width * min(1.0, max(0.0, value or 0.0)))
    full, part = divmod(eighths, 8)
    return ("█" * full + (_PARTS[part] if part else "")).ljust(width)


def curve(values: Sequence[float | None], width: int, *, low: float, high: float) -> str:
    """Values over time on a fixed scale; neighbours are averaged where there are too many."""
    known = [value for value in values if value is not None]
    if not known or width < 1:
        return ""
    if len(known) > width:
        edges = [round(i * len(known) / width) for i in range(width + 1)]
        known = [sum(known[a:b]) / (b - a) for a, b in itertools.pairwise(edges) if b > a]
    top = len(_LEVELS) - 1
    places = [round(top * (value - low) / (high - low)) for value in known]
    return "".join(_LEVELS[min(top, max(0, place))] for place in places)
