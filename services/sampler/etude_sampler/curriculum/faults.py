"""The one error of a curriculum's configuration.

Neighbours: `resolve` raises it; the API turns it into a problem document that names the field.
"""

from __future__ import annotations


class ConfigFault(ValueError):
    """A curriculum configuration that cannot be followed."""

    def __init__(self, pointer: str, detail: str) -> None:
        """Fault at `pointer` (RFC 6901, for example `/curriculum/weigher/knobs/eps`)."""
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail

    def __reduce__(self) -> tuple[type[ConfigFault], tuple[str, str]]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.pointer, self.detail)


class KnobFault(ValueError):
    """A knob that contradicts the run; raised by a part's `build`, relative to its knobs."""

    def __init__(self, path: tuple[str | int, ...], detail: str) -> None:
        """Fault at `path` below the part's knobs."""
        super().__init__(detail)
        self.path = path
        self.detail = detail


def pointer(*parts: str | int) -> str:
    """JSON pointer of `parts`, escaped."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
