"""API keys and the buckets that bound their calls; implemented in `store/postgres` and
`store/redis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from etude_proto.v1 import KeyCreate, Scope


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as PostgreSQL holds it; never its text."""

    id: str
    label: str
    scopes: tuple[Scope, ...]
    runs: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class LiveKey:
    """What a call's key is compared with."""

    id: str
    digest: bytes
    scopes: frozenset[Scope]
    runs: frozenset[str] | None
    left_s: float | None
    """Until it ends, when it was read; None for no end."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key that is neither revoked nor expired."""

    live: Mapping[str, LiveKey]
    """By id."""
    ever: bool
    """Whether a key was ever stored, ended ones too."""


class Keys(Protocol):
    """The stored keys."""

    async def ring(self) -> KeyRing:
        """All live keys."""

    async def create(self, key: KeyCreate) -> KeyRow:
        """Store a key; the stored one if it is there already.

        Raises `IllegalTransition` (the id belongs to another key, or there are too many).
        """

    async def get(self, key_id: str) -> KeyRow:
        """Raises `KeyNotFound`."""

    async def page(self, *, after: str | None, limit: int) -> list[KeyRow]:
        """Keys by id, ended ones too."""

    async def revoke(self, key_id: str) -> KeyRow:
        """End a key; it stays ended when it was. Raises `KeyNotFound`."""

    async def used(self, ids: Sequence[str]) -> None:
        """Note that these were used in the last minute."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a bucket gave."""

    granted: int
    left: int
    """In the bucket afterwards."""
    wait_s: float
    """Until it holds one again; 0 if it does."""


class Throttle(Protocol):
    """Token buckets that all replicas share."""

    async def take(self, name: str, wanted: int, *, per_s: float, burst: int) -> Allowance:
        """Take up to `wanted` calls. Raises `DependencyUnavailable`."""
