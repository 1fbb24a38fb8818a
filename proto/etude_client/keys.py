"""Calls about API keys, for both clients; the other calls are in `operations.py`.

A key is made by `etude_proto.keys.new_key`, here on the caller's side; only its digest is sent.
"""

from __future__ import annotations

from urllib.parse import quote

from etude_proto.v1 import Key, KeyCreate, KeyPage

from .call import Call
from .connections import AsyncConnection, Connection
from .operations import _get, _post


def _key(key_id: str, rest: str = "") -> str:
    return f"/v1/keys/{quote(key_id, safe='')}{rest}"


def create_key(request: KeyCreate, *, key: str | None) -> Call[Key]:
    return _post("/v1/keys", request, Key, key=key)


def list_keys(*, limit: int | None, cursor: str | None) -> Call[KeyPage]:
    return _get("/v1/keys", KeyPage, limit=limit, cursor=cursor)


def get_key(key_id: str) -> Call[Key]:
    return _get(_key(key_id), Key)


def revoke_key(key_id: str, *, key: str | None) -> Call[Key]:
    return _post(_key(key_id, "/revoke"), None, Key, key=key)


class AsyncKeyCalls(AsyncConnection):
    """The calls about keys of `AsyncEtudeClient`."""

    async def create_key(self, request: KeyCreate, *, idempotency_key: str | None = None) -> Key:
        """Store a key that `etude_proto.keys.new_key` made."""
        return await self._send(create_key(request, key=idempotency_key))

    async def list_keys(self, *, limit: int | None = None, cursor: str | None = None) -> KeyPage:
        """One page of keys, ended ones too."""
        return await self._send(list_keys(limit=limit, cursor=cursor))

    async def get_key(self, key_id: str) -> Key:
        """One key."""
        return await self._send(get_key(key_id))

    async def revoke_key(self, key_id: str, *, idempotency_key: str | None = None) -> Key:
        """End a key now; every replica refuses it within three seconds."""
        return await self._send(revoke_key(key_id, key=idempotency_key))


class KeyCalls(Connection):
    """The calls about keys of `EtudeClient`."""

    def create_key(self, request: KeyCreate, *, idempotency_key: str | None = None) -> Key:
        """Store a key that `etude_proto.keys.new_key` made."""
        return self._send(create_key(request, key=idempotency_key))

    def list_keys(self, *, limit: int | None = None, cursor: str | None = None) -> KeyPage:
        """One page of keys, ended ones too."""
        return self._send(list_keys(limit=limit, cursor=cursor))

    def get_key(self, key_id: str) -> Key:
        """One key."""
        return self._send(get_key(key_id))

    def revoke_key(self, key_id: str, *, idempotency_key: str | None = None) -> Key:
        """End a key now; every replica refuses it within three seconds."""
        return self._send(revoke_key(key_id, key=idempotency_key))
