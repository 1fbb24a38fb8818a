"""Where model weights lie, as a `weights_uri` says it: compared by name, without touching a disk.

The sampler checks announcements with this; who opens a directory follows links first and checks
what is really there (`etude_rollout.weights.disk`, `etude_trainer.weights.disk`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_ODD = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Place:
    """A path or URI, taken apart."""

    scheme: str
    """`file` for paths, too."""
    host: str
    is_absolute: bool
    parts: tuple[str, ...]
    """Names of folders, without empty ones and `.`."""

    def lies_below(self, root: Place) -> bool:
        """Whether this is strictly below `root`."""
        same = (self.scheme, self.host, self.is_absolute) == (
            root.scheme,
            root.host,
            root.is_absolute,
        )
        size = len(root.parts)
        return same and len(self.parts) > size and self.parts[:size] == root.parts


def place_of(uri: str) -> Place:
    """The place that a path or URI names.

    Raises:
        ValueError: it climbs (`..`), holds control characters or backslashes, a query, a fragment
            or a password, is a `file:` URI of another host, or a path with `%` escapes, which some
            readers would take for what they stand for.
    """
    if _ODD.search(uri) or _ODD.search(unquote(uri)):
        raise ValueError("control characters and backslashes are no part of a place")
    scheme, host, path = "file", "", uri
    if _URI.match(uri):
        split = urlsplit(uri)
        if split.query or split.fragment or "?" in uri or "#" in uri or "@" in split.netloc:
            raise ValueError("a place has no query, fragment, user or password")
        scheme, host, path = split.scheme, split.netloc.lower(), unquote(split.path)
        if scheme == "file":
            if host not in ("", "localhost") or not path.startswith("/"):
                raise ValueError("a file URI is file:///absolute/path")
            host = ""
    elif "?" in uri or "#" in uri:
        raise ValueError("a place has no query and no fragment")
    elif _ESCAPE.search(uri):
        raise ValueError("a place that is a path has no % escapes; write a file:// URI")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in (*parts, *unquote("/".join(parts)).split("/")):
        raise ValueError("a place does not climb (..)")
    return Place(scheme, host, scheme != "file" or path.startswith("/"), parts)
