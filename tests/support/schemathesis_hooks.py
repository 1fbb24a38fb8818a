"""What schemathesis does not know by itself: lines of JSON, fences, and not to wait."""

from __future__ import annotations

import json
import os

import schemathesis

SHORT_S = 0.05
FENCES: dict[str, int] = json.loads(os.environ["FENCES"])
"""Lease id -> fence."""


@schemathesis.serializer("application/x-ndjson")  # type: ignore[untyped-decorator]
def lines(_context: object, value: object) -> bytes:
    """One generated value is one line; bytes are sent as they are."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(_context: object, case: schemathesis.Case, _kwargs: object) -> None:
    """Leases get their fence, which nobody guesses; a long poll that may be long is cut short."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("fence"), int):
        fence = FENCES.get(case.path_parameters.get("lease_id", ""))
        body = case.body = body if fence is None else {**body, "fence": fence}
    if isinstance(body, dict):
        wait_s = body.get("wait_s")
        if isinstance(wait_s, (int, float)) and SHORT_S < wait_s <= 30:
            case.body = {**body, "wait_s": SHORT_S}
