"""Routes of the control plane: datasets, imports, runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from etude_proto.v1 import (
    MAX_PAGE,
    Dataset,
    DatasetCreate,
    DatasetPage,
    ImportReceipt,
    Rebuild,
    Run,
    RunCreate,
    RunPage,
    RunStatus,
    RunUpdate,
)

from ..errors import BadRequest, IdempotencyInProgress, RevisionMismatch, UnsupportedMediaType
from ..service.sampler import Sampler
from .access import caller_of, may_name
from .bodies import (
    Call,
    HashedLines,
    idempotency_key,
    json_call,
    lines,
    media_type_of,
)
from .deps import sampler_of
from .replies import decode_cursor, encode_cursor, once, once_bare, reply, scope_of
from .schema import answer, json_body, lines_body, no_body

router = APIRouter(prefix="/v1", tags=["control"])
S = Annotated[Sampler, Depends(sampler_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
_MAX_LINE = 16 << 20
_CreateDataset = Annotated[Call[DatasetCreate], Depends(json_call(DatasetCreate))]
_CreateRun = Annotated[Call[RunCreate], Depends(json_call(RunCreate))]
_UpdateRun = Annotated[Call[RunUpdate], Depends(json_call(RunUpdate))]


@router.post(
    "/datasets",
    operation_id="create_dataset",
    responses={**answer(Dataset), **answer(Dataset, 201)},
    openapi_extra=json_body(DatasetCreate),
    response_class=Response,
)
async def create_dataset(request: Request, call: _CreateDataset, sampler: S) -> Response:
    """Create a dataset; an existing name returns that dataset."""

    async def work() -> tuple[int, bytes]:
        dataset, created = await sampler.datasets.create(call.body)
        return 201 if created else 200, dataset.model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=work,
    )


@router.get(
    "/datasets",
    operation_id="list_datasets",
    responses=answer(DatasetPage),
    response_class=Response,
)
async def list_datasets(sampler: S, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Datasets, by id."""
    after = decode_cursor("datasets", cursor, str)
    page, last = await sampler.datasets.page(after=after, limit=limit)
    return reply(page.model_copy(update={"next_cursor": encode_cursor("datasets", last)}))


@router.get(
    "/datasets/{dataset_id}",
    operation_id="get_dataset",
    responses=answer(Dataset),
    response_class=Response,
)
async def get_dataset(dataset_id: str, sampler: S) -> Response:
    """One dataset with its counts."""
    return reply(await sampler.datasets.get(dataset_id))


@router.post(
    "/datasets/{dataset_id}/tasks",
    operation_id="import_tasks",
    responses=answer(ImportReceipt),
    openapi_extra=lines_body(),
    response_class=Response,
)
async def import_tasks(request: Request, dataset_id: str, sampler: S) -> Response:
    """Import tasks, one JSON object a line. Idempotent by content; bad lines are reported."""
    key, scope = idempotency_key(request), scope_of(request)
    media_type = media_type_of(request)
    if media_type not in ("application/x-ndjson", "application/jsonl"):
        raise UnsupportedMediaType(f"{media_type!r}; imports are application/x-ndjson")
    hashed = HashedLines(request, lines(request, max_line_bytes=_MAX_LINE))
    catalog = sampler.ground.catalog
    receipt: ImportReceipt | None = None
    if await catalog.has_answer(scope, key):
        await hashed.read_out()  # the answer is given again, to the same lines only
    else:
        receipt = await sampler.datasets.add_tasks(dataset_id, hashed)

    async def work() -> tuple[int, bytes]:
        if receipt is None:
            raise IdempotencyInProgress("the stored answer was just dropped; send it again")
        return 200, receipt.model_dump_json().encode()

    return await once(catalog, scope=scope, key=key, body_hash=hashed.hash, work=work)


@router.post(
    "/runs",
    operation_id="create_run",
    status_code=201,
    responses=answer(Run, 201),
    openapi_extra=json_body(RunCreate),
    response_class=Response,
)
async def create_run(request: Request, call: _CreateRun, sampler: S) -> Response:
    """Create a run: check its curriculum, load its lanes."""

    async def work() -> tuple[int, bytes]:
        run = await sampler.runs.create(call.body, call=f"{call.key} {call.body_hash}")
        return 201, run.model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=work,
    )


@router.get("/runs", operation_id="list_runs", responses=answer(RunPage), response_class=Response)
async def list_runs(
    request: Request, sampler: S, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Runs, by id; those that the key covers."""
    after = decode_cursor("runs", cursor, str)
    caller = caller_of(request)
    only = None if caller.runs is None else (caller.run_ids, caller.run_names)
    page, last = await sampler.runs.page(after=after, limit=limit, only=only)
    return reply(page.model_copy(update={"next_cursor": encode_cursor("runs", last)}))


@router.get(
    "/runs/{run_id}", operation_id="get_run", responses=answer(Run), response_class=Response
)
async def get_run(run_id: str, sampler: S) -> Response:
    """One run; its `ETag` is the revision."""
    run = await sampler.runs.get(run_id)
    return reply(run, ETag=f'"{run.revision}"')


@router.patch(
    "/runs/{run_id}",
    operation_id="update_run",
    responses=answer(Run),
    openapi_extra=json_body(RunUpdate),
    response_class=Response,
)
async def update_run(
    request: Request,
    run_id: str,
    call: _UpdateRun,
    sampler: S,
    if_match: Annotated[str | None, Header(description="The `ETag` of the run.")] = None,
) -> Response:
    """Change a run's name or limits, if it is still at the revision of `If-Match`."""
    if if_match is None:
        raise BadRequest("send If-Match with the run's ETag")
    may_name(request, call.body.name)
    revision = if_match.strip().removeprefix("W/").strip('"')
    if not (revision.isascii() and revision.isdigit()) or len(revision) > 9:
        raise RevisionMismatch("If-Match is not a revision of a run")

    async def work() -> tuple[int, bytes]:
        run = await sampler.runs.update(run_id, call.body, revision=int(revision))
        return 200, run.model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=work,
    )


@router.post(
    "/runs/{run_id}/pause",
    operation_id="pause_run",
    responses=answer(Run),
    openapi_extra=no_body(),
    response_class=Response,
)
async def pause_run(request: Request, run_id: str, sampler: S) -> Response:
    """Stop drawing; live leases go on."""
    status = RunStatus.PAUSED
    return await once_bare(
        request, sampler.ground.catalog, lambda: sampler.runs.set_status(run_id, status)
    )


@router.post(
    "/runs/{run_id}/resume",
    operation_id="resume_run",
    responses=answer(Run),
    openapi_extra=no_body(),
    response_class=Response,
)
async def resume_run(request: Request, run_id: str, sampler: S) -> Response:
    """Draw again."""
    status = RunStatus.ACTIVE
    return await once_bare(
        request, sampler.ground.catalog, lambda: sampler.runs.set_status(run_id, status)
    )


@router.post(
    "/runs/{run_id}/rebuild",
    operation_id="rebuild_run",
    responses=answer(Rebuild),
    openapi_extra=no_body(),
    response_class=Response,
)
async def rebuild_run(request: Request, run_id: str, sampler: S) -> Response:
    """Load a run's hot state anew from PostgreSQL; its leases and ready groups end."""
    return await once_bare(request, sampler.ground.catalog, lambda: sampler.runs.rebuild(run_id))
