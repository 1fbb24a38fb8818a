"""API keys: what a caller may do, in which runs, and until when."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import Name, Request, Response

KeyId = Annotated[str, Field(pattern=r"^key_[0-9a-f]{12}$")]
"""Id of an API key; the key itself begins with `etk_` and the same twelve digits."""


class Scope(StrEnum):
    """What a key may do; each scope may also read."""

    ADMIN = "admin"
    """Everything: keys, datasets, runs and their limits, and what the other scopes may."""
    TRAINER = "trainer"
    """Lease, extend, ack and release training batches; announce versions; checkpoints."""
    ROLLOUT = "rollout"
    """Lease, extend and release prompt batches; report."""
    READ = "read"
    """Look at runs, tasks and history."""


class KeyCreate(Request):
    """A new key. It is made by the caller (`etude_proto.keys`); only its digest is sent."""

    id: KeyId
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key's text, hexadecimal."""
    label: Name
    """Who or what uses it."""
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    runs: list[Name] | None = Field(default=None, min_length=1, max_length=64)
    """Ids or names of the only runs that the key covers; null for all. A name covers the runs that
    bear it, now or later."""
    ttl_s: int | None = Field(default=None, ge=1, le=10 * 366 * 86400)
    """Seconds until the key ends, by the database's clock; null for no end."""


class Key(Response):
    """A key as stored: everything but the key."""

    id: KeyId
    prefix: str
    """How the key's text begins."""
    label: str
    scopes: list[Scope]
    runs: list[str] | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    """To the minute."""


class KeyPage(Response):
    """`GET /v1/keys`."""

    items: list[Key]
    next_cursor: str | None
