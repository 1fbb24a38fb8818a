"""Logs as one JSON object a line: an event name and fields, never sentences."""

from __future__ import annotations

import logging

from etude_client.json_logs import json_handler


def configure(level: str) -> None:
    """Log to standard error as JSON lines."""
    root = logging.getLogger()
    root.handlers[:] = [json_handler()]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)
