"""Routes of time travel: checkpoints, restore, fork, and the draws since."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from etude_proto.v1 import (
    MAX_PAGE,
    Checkpoint,
    CheckpointCreate,
    CheckpointPage,
    DrawPage,
    ForkRequest,
    Restore,
    RestorePage,
    RestoreRequest,
    Run,
)

from ..errors import CursorExpired
from ..service.sampler import Sampler
from .access import may_name
from .bodies import Call, ModelT, json_call
from .deps import sampler_of
from .replies import decode_cursor, encode_cursor, once, once_bare, reply, scope_of
from .schema import answer, json_body, no_body

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["time travel"])
S = Annotated[Sampler, Depends(sampler_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
_Take = Annotated[Call[CheckpointCreate], Depends(json_call(CheckpointCreate))]
_Restore = Annotated[Call[RestoreRequest], Depends(json_call(RestoreRequest))]
_Fork = Annotated[Call[ForkRequest], Depends(json_call(ForkRequest))]


async def _once(
    request: Request,
    sampler: Sampler,
    call: Call[ModelT],
    work: Callable[[str], Awaitable[BaseModel]],
    *,
    status: int = 200,
) -> Response:
    """Run a call once per key; `work` gets what tells it from every other call."""

    async def encoded() -> tuple[int, bytes]:
        done = await work(f"{call.key} {call.body_hash}")
        return status, done.model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=encoded,
    )


@router.post(
    "/checkpoints",
    operation_id="create_checkpoint",
    status_code=201,
    responses=answer(Checkpoint, 201),
    openapi_extra=json_body(CheckpointCreate),
    response_class=Response,
)
async def create_checkpoint(request: Request, run_id: str, call: _Take, sampler: S) -> Response:
    """Take a curriculum checkpoint of the run as it is now."""

    async def work(name: str) -> BaseModel:
        return await sampler.travel.take(run_id, call.body, call=name)

    return await _once(request, sampler, call, work, status=201)


@router.get(
    "/checkpoints",
    operation_id="list_checkpoints",
    responses=answer(CheckpointPage),
    response_class=Response,
)
async def list_checkpoints(
    run_id: str, sampler: S, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Curriculum checkpoints, oldest first; those of discarded futures too."""
    after = decode_cursor("checkpoints", cursor, int) or 0
    page, last = await sampler.travel.page(run_id, after=after, limit=limit)
    return reply(page.model_copy(update={"next_cursor": encode_cursor("checkpoints", last)}))


@router.get(
    "/checkpoints/{checkpoint_id}",
    operation_id="get_checkpoint",
    responses=answer(Checkpoint),
    response_class=Response,
)
async def get_checkpoint(run_id: str, checkpoint_id: str, sampler: S) -> Response:
    """One curriculum checkpoint."""
    return reply(await sampler.travel.get(run_id, checkpoint_id))


@router.delete(
    "/checkpoints/{checkpoint_id}",
    operation_id="delete_checkpoint",
    responses=answer(Checkpoint),
    openapi_extra=no_body(),
    response_class=Response,
)
async def delete_checkpoint(
    request: Request, run_id: str, checkpoint_id: str, sampler: S
) -> Response:
    """Forget a curriculum checkpoint, pinned or not."""
    return await once_bare(
        request, sampler.ground.catalog, lambda: sampler.travel.delete(run_id, checkpoint_id)
    )


@router.post(
    "/restore",
    operation_id="restore_run",
    responses=answer(Restore),
    openapi_extra=json_body(RestoreRequest),
    response_class=Response,
)
async def restore_run(request: Request, run_id: str, call: _Restore, sampler: S) -> Response:
    """Take the run back to a checkpoint; what came after it counts no more."""

    async def work(name: str) -> BaseModel:
        return await sampler.travel.restore(run_id, call.body.checkpoint_id, call=name)

    return await _once(request, sampler, call, work)


@router.get(
    "/restores",
    operation_id="list_restores",
    responses=answer(RestorePage),
    response_class=Response,
)
async def list_restores(
    run_id: str, sampler: S, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Restores, oldest first: which futures were discarded."""
    after = decode_cursor("restores", cursor, int) or 0
    page, last = await sampler.travel.restores(run_id, after=after, limit=limit)
    return reply(page.model_copy(update={"next_cursor": encode_cursor("restores", last)}))


@router.post(
    "/fork",
    operation_id="fork_run",
    status_code=201,
    responses=answer(Run, 201),
    openapi_extra=json_body(ForkRequest),
    response_class=Response,
)
async def fork_run(request: Request, run_id: str, call: _Fork, sampler: S) -> Response:
    """Begin another run from a checkpoint of this one."""
    may_name(request, call.body.name)

    async def work(name: str) -> BaseModel:
        return await sampler.travel.fork(run_id, call.body, call=name)

    return await _once(request, sampler, call, work, status=201)


@router.get(
    "/draws", operation_id="list_draws", responses=answer(DrawPage), response_class=Response
)
async def list_draws(
    run_id: str, sampler: S, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Draws of the decision log, oldest first."""
    found = decode_cursor("draws", cursor, str)
    after = (-1, -1) if found is None else _pair(found)
    page, last = await sampler.travel.draws(run_id, after=after, limit=limit)
    mark = None if last is None else f"{last[0]} {last[1]}"
    return reply(page.model_copy(update={"next_cursor": encode_cursor("draws", mark)}))


def _pair(text: str) -> tuple[int, int]:
    epoch, _, number = text.partition(" ")
    if not (epoch.isdecimal() and number.isdecimal() and len(epoch) < 10 and len(number) < 19):
        raise CursorExpired("this is not a cursor of this list")
    return int(epoch), int(number)
