"""The journal: one JSON line a step in `<trainer_dir>/<run id>/metrics.jsonl`.

For plots and summaries; the sampler keeps the metrics of an ack too, without the stage times.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

from .checkpoint import CheckpointState

_TAIL_BYTES: Final = 64 << 10
"""Longer than any line."""


class Journal:
    """Appends the steps of a run to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, state: CheckpointState, seconds: dict[str, float]) -> bool:
        """Write one step, unless it is the last one written (an ack repeated after a kill);
        whether it was written now."""
        if self._last_batch() == state.lease_id:
            return False
        record = {
            "time_unix_s": round(time.time(), 3),
            "policy_version": state.policy_version,
            "batch": state.lease_id,
            "weights_uri": state.weights_uri,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "metrics": state.metrics,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        return True

    def _last_batch(self) -> str | None:
        """Batch of the last line; a line that a kill cut short is removed."""
        if not self._path.is_file():
            return None
        with self._path.open("r+b") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            if len(whole) < len(tail):
                file.truncate(start + len(whole))
        lines = whole.splitlines()
        try:
            return str(json.loads(lines[-1])["batch"]) if lines else None
        except (ValueError, KeyError, TypeError):
            return None
