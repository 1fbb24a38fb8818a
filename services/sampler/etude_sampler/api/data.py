"""Routes of the data plane: prompt batches, leases, reports, training batches, versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from etude_proto.cargo import (
    FRAME_MEDIA_TYPE,
    SAFETENSORS_MEDIA_TYPE,
    CargoError,
    check_against_report,
    read_header,
)
from etude_proto.v1 import (
    AckReceipt,
    AckRequest,
    ExtendRequest,
    Lease,
    PolicyVersionRequest,
    PredictionsReceipt,
    PredictionsRequest,
    PromptBatch,
    PromptBatchRequest,
    Receipt,
    Released,
    ReleaseRequest,
    Report,
    TrainingBatchRequest,
)

from ..errors import TrajectoryMismatch, UnsupportedMediaType
from ..ports.ledger import Receipted, ReportKey
from ..service.reports import Incoming
from ..service.sampler import Sampler
from .bodies import (
    Call,
    ModelT,
    hash_body,
    idempotency_key,
    json_call,
    media_type_of,
    read,
    validate,
)
from .deps import sampler_of
from .replies import REPLAYED, once, reply, scope_of
from .schema import answer, frame_answer, json_body, report_body

router = APIRouter(prefix="/v1", tags=["data"])
S = Annotated[Sampler, Depends(sampler_of)]
_PromptCall = Annotated[Call[PromptBatchRequest], Depends(json_call(PromptBatchRequest))]
_ExtendCall = Annotated[Call[ExtendRequest], Depends(json_call(ExtendRequest))]
_ReleaseCall = Annotated[Call[ReleaseRequest], Depends(json_call(ReleaseRequest))]
_TrainingCall = Annotated[Call[TrainingBatchRequest], Depends(json_call(TrainingBatchRequest))]
_AckCall = Annotated[Call[AckRequest], Depends(json_call(AckRequest))]
_VersionCall = Annotated[Call[PolicyVersionRequest], Depends(json_call(PolicyVersionRequest))]
_PredictCall = Annotated[Call[PredictionsRequest], Depends(json_call(PredictionsRequest))]


async def _once(
    request: Request,
    sampler: Sampler,
    call: Call[ModelT],
    work: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """Run a small call once per key."""

    async def encoded() -> tuple[int, bytes]:
        return 200, (await work()).model_dump_json().encode()

    return await once(
        sampler.ground.catalog,
        scope=scope_of(request),
        key=call.key,
        body_hash=call.body_hash,
        work=encoded,
    )


def _receipt(found: Receipted) -> Response:
    headers = REPLAYED if found.replayed else None
    return Response(found.receipt, headers=headers, media_type="application/json")


@router.post(
    "/runs/{run_id}/prompt-batches",
    operation_id="lease_prompt_batch",
    responses=answer(PromptBatch),
    openapi_extra=json_body(PromptBatchRequest),
    response_class=Response,
)
async def lease_prompt_batch(run_id: str, call: _PromptCall, sampler: S) -> Response:
    """Draw tasks and lease them; waits up to `wait_s` for a free slot."""
    return reply(
        await sampler.prompts.lease(
            run_id, call.body, idempotency_key=call.key, body_hash=call.body_hash
        )
    )


@router.post(
    "/leases/{lease_id}/extend",
    operation_id="extend_lease",
    responses=answer(Lease),
    openapi_extra=json_body(ExtendRequest),
    response_class=Response,
)
async def extend_lease(lease_id: str, call: _ExtendCall, sampler: S) -> Response:
    """Heartbeat: move the lease's deadline."""
    key = ReportKey(call.key, call.body_hash)
    return reply(await sampler.prompts.extend(lease_id, call.body, key))


@router.post(
    "/leases/{lease_id}/release",
    operation_id="release_lease",
    responses=answer(Released),
    openapi_extra=json_body(ReleaseRequest),
    response_class=Response,
)
async def release_lease(
    request: Request, lease_id: str, call: _ReleaseCall, sampler: S
) -> Response:
    """Give back the tasks that have not been reported."""

    async def work() -> BaseModel:
        return await sampler.prompts.release(lease_id, call.body)

    return await _once(request, sampler, call, work)


@router.post(
    "/leases/{lease_id}/groups",
    operation_id="report_groups",
    responses=answer(Receipt),
    openapi_extra=report_body(),
    response_class=Response,
)
async def report_groups(request: Request, lease_id: str, sampler: S) -> Response:
    """Report groups: outcomes as JSON, or one group's outcomes and trajectories as safetensors."""
    key = idempotency_key(request)
    media_type = media_type_of(request)
    data = await read(request, max_bytes=request.app.state.settings.max_body_bytes)
    cargo: bytes | None = None
    if media_type == "application/json":
        report = validate(Report, data)
    elif media_type == SAFETENSORS_MEDIA_TYPE:
        try:
            header = read_header(data)
            report = validate(Report, header.report_json)
            check_against_report(header, report)
        except CargoError as error:
            raise TrajectoryMismatch(str(error)) from error
        cargo = data
    else:
        raise UnsupportedMediaType(
            f"{media_type!r}; reports are application/json or {SAFETENSORS_MEDIA_TYPE}"
        )
    incoming = Incoming(lease_id, report, ReportKey(key, hash_body(request, data)), cargo)
    return _receipt(await sampler.reports.report(incoming))


@router.post(
    "/runs/{run_id}/training-batches",
    operation_id="lease_training_batch",
    responses=frame_answer(),
    openapi_extra=json_body(TrainingBatchRequest),
    response_class=Response,
)
async def lease_training_batch(run_id: str, call: _TrainingCall, sampler: S) -> Response:
    """Lease ready groups; waits up to `wait_s` for a full batch."""
    frame = await sampler.training.lease(
        run_id, call.body, idempotency_key=call.key, body_hash=call.body_hash
    )
    return Response(frame, media_type=FRAME_MEDIA_TYPE)


@router.post(
    "/training-batches/{lease_id}/extend",
    operation_id="extend_training_batch",
    responses=answer(Lease),
    openapi_extra=json_body(ExtendRequest),
    response_class=Response,
)
async def extend_training_batch(lease_id: str, call: _ExtendCall, sampler: S) -> Response:
    """Heartbeat: move the training batch's deadline."""
    key = ReportKey(call.key, call.body_hash)
    return reply(await sampler.training.extend(lease_id, call.body, key))


@router.post(
    "/training-batches/{lease_id}/ack",
    operation_id="ack_training_batch",
    responses=answer(AckReceipt),
    openapi_extra=json_body(AckRequest),
    response_class=Response,
)
async def ack_training_batch(lease_id: str, call: _AckCall, sampler: S) -> Response:
    """The step is done and saved: settle the batch and announce the next policy version."""
    key = ReportKey(call.key, call.body_hash)
    return _receipt(await sampler.training.ack(lease_id, call.body, key))


@router.post(
    "/training-batches/{lease_id}/release",
    operation_id="release_training_batch",
    responses=answer(Released),
    openapi_extra=json_body(ReleaseRequest),
    response_class=Response,
)
async def release_training_batch(
    request: Request, lease_id: str, call: _ReleaseCall, sampler: S
) -> Response:
    """Give a batch back untrained; its groups are ready again."""

    async def work() -> BaseModel:
        return await sampler.training.release(lease_id, call.body)

    return await _once(request, sampler, call, work)


@router.post(
    "/runs/{run_id}/policy-versions",
    operation_id="announce_policy_version",
    responses=answer(AckReceipt),
    openapi_extra=json_body(PolicyVersionRequest),
    response_class=Response,
)
async def announce_policy_version(run_id: str, call: _VersionCall, sampler: S) -> Response:
    """Announce the next version of a curriculum-only run."""
    key = ReportKey(call.key, call.body_hash)
    return _receipt(await sampler.training.announce(run_id, call.body, key))


@router.post(
    "/runs/{run_id}/predictions",
    operation_id="post_predictions",
    responses=answer(PredictionsReceipt),
    openapi_extra=json_body(PredictionsRequest),
    response_class=Response,
)
async def post_predictions(
    request: Request, run_id: str, call: _PredictCall, sampler: S
) -> Response:
    """Store value predictions for tasks."""

    async def work() -> BaseModel:
        return await sampler.task_views.predict(run_id, call.body)

    return await _once(request, sampler, call, work)
