"""Logs: one JSON object a line on standard error, an event with fields, never a sentence."""

from __future__ import annotations

import logging

from etude_client.json_logs import json_handler


def configure(level: str = "INFO") -> None:
    """Send this process's logs to standard error as JSON; our events from `level`, others' from
    warnings on."""
    logging.basicConfig(level=logging.WARNING, handlers=[json_handler()], force=True)
    logging.getLogger("etude_trainer").setLevel(level)
