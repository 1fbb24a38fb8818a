"""Replies: encoded models, cursors, and the control plane's stored answers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, JsonValue

from ..errors import CursorExpired
from ..ports.catalog import Catalog, StoredAnswer
from .bodies import hash_body, idempotency_key

T = TypeVar("T")
REPLAYED = {"Idempotent-Replayed": "true"}


def reply(model: BaseModel | bytes, status: int = 200, **headers: str) -> Response:
    """A model, or bytes that are one already."""
    content = model if isinstance(model, bytes) else model.model_dump_json().encode()
    return Response(content, status, headers=headers or None, media_type="application/json")


def encode_cursor(kind: str, value: JsonValue) -> str | None:
    """An opaque cursor; None where the list ends."""
    if value is None:
        return None
    text = json.dumps([kind, value], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _fits_sql(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 2**31
    text = str(value)
    return "\x00" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def decode_cursor(kind: str, cursor: str | None, want: type[T]) -> T | None:
    """The value in a cursor of this list.

    Raises:
        CursorExpired: not a cursor of this list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = json.loads(base64.urlsafe_b64decode(padded.encode()))
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise CursorExpired("this is not a cursor of this list") from error
    if (
        not isinstance(found, list)
        or len(found) != 2
        or found[0] != kind
        or type(found[1]) is not want
        or not _fits_sql(found[1])
    ):
        raise CursorExpired("this is not a cursor of this list")
    return found[1]


async def once(
    catalog: Catalog,
    *,
    scope: str,
    key: str,
    body_hash: str,
    work: Callable[[], Awaitable[tuple[int, bytes]]],
) -> Response:
    """Run a control-plane call once per key; a retry gets the stored answer.

    Raises:
        IdempotencyKeyReused, IdempotencyInProgress: see `Catalog.begin_call`.
    """
    stored = await catalog.begin_call(scope, key, body_hash)
    if stored is not None:
        return Response(
            stored.response, stored.status, headers=REPLAYED, media_type="application/json"
        )
    answer: StoredAnswer | None = None
    try:
        status, content = await work()
        answer = StoredAnswer(status, content)
    finally:
        await catalog.finish_call(scope, key, answer)
    return Response(content, status, media_type="application/json")


async def once_bare(
    request: Request, catalog: Catalog, work: Callable[[], Awaitable[BaseModel]]
) -> Response:
    """`once` for a call without a body, answered 200 with a model."""

    async def answered() -> tuple[int, bytes]:
        return 200, (await work()).model_dump_json().encode()

    return await once(
        catalog,
        scope=scope_of(request),
        key=idempotency_key(request),
        body_hash=hash_body(request, b""),
        work=answered,
    )


def scope_of(request: Request) -> str:
    """Where a control-plane key is unique: the called path."""
    return f"{request.method} {request.url.path}"
