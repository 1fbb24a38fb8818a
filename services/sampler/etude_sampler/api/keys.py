"""Routes of API keys: create, list, show, revoke. For administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from etude_proto.v1 import MAX_PAGE, Key, KeyCreate, KeyPage

from ..service.sampler import Sampler
from .access import caller_of
from .bodies import Call, json_call
from .deps import sampler_of
from .replies import decode_cursor, encode_cursor, once, once_bare, reply, scope_of
from .schema import answer, json_body, no_body

router = APIRouter(prefix="/v1/keys", tags=["keys"])
S = Annotated[Sampler, Depends(sampler_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
_CreateKey = Annotated[Call[KeyCreate], Depends(json_call(KeyCreate))]


@router.post(
    "",
    operation_id="create_key",
    status_code=201,
    responses=answer(Key, 201),
    openapi_extra=json_body(KeyCreate),
    response_class=Response,
)
async def create_key(request: Request, call: _CreateKey, sampler: S) -> Response:
    """Store a key that the caller made; only its digest is sent, and nothing can show it again."""
    caller = caller_of(request)

    async def work() -> tuple[int, bytes]:
        key = await sampler.keys.create(call.body, caller)
        return 201, key.model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=work,
    )


@router.get("", operation_id="list_keys", responses=answer(KeyPage), response_class=Response)
async def list_keys(sampler: S, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Keys by id, ended ones too."""
    after = decode_cursor("keys", cursor, str)
    page, last = await sampler.keys.page(after=after, limit=limit)
    return reply(page.model_copy(update={"next_cursor": encode_cursor("keys", last)}))


@router.get("/{key_id}", operation_id="get_key", responses=answer(Key), response_class=Response)
async def get_key(key_id: str, sampler: S) -> Response:
    """One key."""
    return reply(await sampler.keys.get(key_id))


@router.post(
    "/{key_id}/revoke",
    operation_id="revoke_key",
    responses=answer(Key),
    openapi_extra=no_body(),
    response_class=Response,
)
async def revoke_key(request: Request, key_id: str, sampler: S) -> Response:
    """End a key now; every replica refuses it within three seconds."""
    return await once_bare(request, sampler.ground.catalog, lambda: sampler.keys.revoke(key_id))
