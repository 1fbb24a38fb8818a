"""API keys as administrators see them: create, list, revoke. Who is calling: `callers`."""

from __future__ import annotations

from datetime import UTC, datetime

from etude_proto.v1 import Key, KeyCreate, KeyPage, Scope

from ..errors import IllegalTransition
from ..ports.keys import KeyRow, Keys
from .callers import OPEN, Caller, Callers


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else _text(moment)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _view(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        prefix="etk_" + row.id.removeprefix("key_"),
        label=row.label,
        scopes=list(row.scopes),
        runs=None if row.runs is None else list(row.runs),
        created_at=_text(row.created_at),
        expires_at=_iso(row.expires_at),
        revoked_at=_iso(row.revoked_at),
        last_used_at=_iso(row.last_used_at),
    )


class KeyDesk:
    """The stored keys."""

    def __init__(self, keys: Keys, callers: Callers) -> None:
        self._keys = keys
        self._callers = callers

    async def create(self, body: KeyCreate, caller: Caller) -> Key:
        """Store a key.

        Raises:
            IllegalTransition: the first key of all is not an administrator's (nobody could make
                the next one), the id belongs to another key, or there are too many.
        """
        whole = Scope.ADMIN in body.scopes and body.runs is None and body.ttl_s is None
        if caller == OPEN and not whole:
            raise IllegalTransition(
                "from the first key on, keys are asked for: make one with scope admin, for all "
                "runs and without an end, first (or set ETUDE_API_KEYS)"
            )
        row = await self._keys.create(body)
        self._callers.forget()
        return _view(row)

    async def get(self, key_id: str) -> Key:
        """Raises `KeyNotFound`."""
        return _view(await self._keys.get(key_id))

    async def page(self, *, after: str | None, limit: int) -> tuple[KeyPage, str | None]:
        """Keys by id, and the id to go on after."""
        rows = await self._keys.page(after=after, limit=limit + 1)
        last = rows[limit - 1].id if len(rows) > limit else None
        return KeyPage(items=[_view(row) for row in rows[:limit]], next_cursor=None), last

    async def revoke(self, key_id: str) -> Key:
        """End a key; on other replicas within `callers.STALE_S`. Raises `KeyNotFound`."""
        row = await self._keys.revoke(key_id)
        self._callers.forget()
        return _view(row)
