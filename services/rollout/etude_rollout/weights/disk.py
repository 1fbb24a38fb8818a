"""The `disk` weight channel: published directories on a volume shared with the trainer.

The trainer writes a temporary directory and renames it to `v{version:06d}-{batch}` when it is
complete, so a directory that is there is whole. It may disappear again when newer ones are
published. Used by `channels.py` and by the plug-in's stage.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..engines.base import WeightsRefused


class WeightsMissing(LookupError):
    """The directory is not there (any more): a newer version replaces it."""


class DiskChannel:
    """Directories strictly below a root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(self, uri: str) -> Path:
        """The directory of a `file://` URI, an absolute path, or a path relative to the root.

        Symbolic links are followed before the check, so that none leads out of the root.

        Raises:
            WeightsMissing: not there, or not a directory.
            WeightsRefused: another scheme or host, or not strictly below the root.
        """
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
            raise WeightsRefused(f"weights_uri {uri!r} is not a path or a file:// URI")
        path = Path(unquote(parts.path) if parts.scheme else uri)
        root = self.root.resolve()
        resolved = (root / path).resolve()
        if root not in resolved.parents:
            raise WeightsRefused(f"weights_uri {uri!r} does not lie below {root}")
        if not resolved.is_dir():
            raise WeightsMissing(f"weights_uri {uri!r}: there is no directory {resolved}")
        return resolved
