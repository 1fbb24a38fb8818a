"""Health of a service."""

from __future__ import annotations

from typing import Literal

from .base import Response


class Check(Response):
    """One dependency."""

    name: str
    ok: bool
    detail: str


class Health(Response):
    """Answer of `/livez`, `/readyz` and `/startupz`."""

    status: Literal["ok", "unavailable"]
    service: str
    version: str
    checks: list[Check]
