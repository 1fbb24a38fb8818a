"""What to say of a name that nothing has: the nearest one that something has. Used by commands."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NUM_NAMED = 8


def unknown(kind: str, name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """For example `no run is called 'frist'; did you mean 'first'?`.

    `otherwise` is said where there is nothing of the kind.
    """
    names = sorted(set(known))
    said = f"no {kind} is called {name!r}"
    close = get_close_matches(name, names, n=3)
    if close:
        return f"{said}; did you mean {' or '.join(map(repr, close))}?"
    if not names:
        return f"{said}; {otherwise}" if otherwise else said
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{said}; there are {', '.join(map(repr, names[:NUM_NAMED]))}{more}"
