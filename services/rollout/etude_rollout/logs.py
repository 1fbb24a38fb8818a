"""Logs: one JSON object a line on standard error, an event with fields, never a sentence.

Set up by `cli.py`; modules log an event's name and give its fields as `extra`.
"""

from __future__ import annotations

import logging

from etude_client.json_logs import json_handler


def configure(level: str) -> None:
    """Our events from `level` on, other packages' from warnings on."""
    logging.basicConfig(level=logging.WARNING, handlers=[json_handler()], force=True)
    logging.getLogger("etude_rollout").setLevel(level.upper())
