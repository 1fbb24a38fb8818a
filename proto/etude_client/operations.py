"""The operations of the sampler's API, declared once: a function a call, named as operationId.

Both clients are thin twins over this table; the contract test compares it with the OpenAPI
document in both directions.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel

from etude_proto.cargo import FRAME_MEDIA_TYPE, SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import (
    AckReceipt,
    AckRequest,
    CurriculumView,
    Dataset,
    DatasetCreate,
    DatasetPage,
    ExtendRequest,
    Health,
    HistoryPage,
    ImportReceipt,
    Lease,
    PolicyVersionRequest,
    PredictionsReceipt,
    PredictionsRequest,
    PromptBatch,
    PromptBatchRequest,
    Rebuild,
    Receipt,
    Released,
    ReleaseRequest,
    Report,
    Run,
    RunCreate,
    RunPage,
    RunUpdate,
    TaskPage,
    TaskView,
    TrainingBatchRequest,
)

from .call import Call, Lines, ModelT, TrainingFrame, decode_frame, json_decoder

TaskOrder = Literal["ordinal", "hardest", "easiest", "unseen", "stalest", "improved"]
"""Orders of the task explorer."""
TaskKind = Literal["seen", "unseen", "parked"]
"""Kinds of tasks that a list may be narrowed to."""


def _get(path: str, answer: type[ModelT], **params: str | int | None) -> Call[ModelT]:
    given = {name: value for name, value in params.items() if value is not None}
    return Call("GET", path, json_decoder(answer), params=given)


def _headers(content_type: str | None, key: str | None) -> dict[str, str]:
    headers = {"idempotency-key": key or uuid.uuid4().hex}
    return headers if content_type is None else {**headers, "content-type": content_type}


def _post(
    path: str,
    request: BaseModel | None,
    answer: type[ModelT],
    *,
    key: str | None,
    wait_s: float = 0.0,
    is_heartbeat: bool = False,
    partial: bool = False,
) -> Call[ModelT]:
    """A call with a body; a `partial` one says only what was given, the rest is to stay."""
    return Call(
        "POST",
        path,
        json_decoder(answer),
        headers=_headers(None if request is None else "application/json", key),
        body=None if request is None else request.model_dump_json(exclude_unset=partial).encode(),
        wait_s=wait_s,
        is_heartbeat=is_heartbeat,
    )


def _dataset(dataset_id: str, rest: str = "") -> str:
    return f"/v1/datasets/{quote(dataset_id, safe='')}{rest}"


def _run(run_id: str, rest: str = "") -> str:
    return f"/v1/runs/{quote(run_id, safe='')}{rest}"


def _lease(lease_id: str, rest: str) -> str:
    return f"/v1/leases/{quote(lease_id, safe='')}{rest}"


def _training_batch(lease_id: str, rest: str) -> str:
    return f"/v1/training-batches/{quote(lease_id, safe='')}{rest}"


def create_dataset(request: DatasetCreate, *, key: str | None) -> Call[Dataset]:
    return _post("/v1/datasets", request, Dataset, key=key)


def list_datasets(*, limit: int | None, cursor: str | None) -> Call[DatasetPage]:
    return _get("/v1/datasets", DatasetPage, limit=limit, cursor=cursor)


def get_dataset(dataset_id: str) -> Call[Dataset]:
    return _get(_dataset(dataset_id), Dataset)


def import_tasks(
    dataset_id: str, lines: Iterable[bytes], *, key: str | None, compress: bool
) -> Call[ImportReceipt]:
    headers = _headers("application/x-ndjson", key)
    return Call(
        "POST",
        _dataset(dataset_id, "/tasks"),
        json_decoder(ImportReceipt),
        headers={**headers, "content-encoding": "gzip"} if compress else headers,
        body=Lines(lines, compress=compress),
    )


def create_run(request: RunCreate, *, key: str | None) -> Call[Run]:
    return _post("/v1/runs", request, Run, key=key)


def list_runs(*, limit: int | None, cursor: str | None) -> Call[RunPage]:
    return _get("/v1/runs", RunPage, limit=limit, cursor=cursor)


def get_run(run_id: str) -> Call[Run]:
    return _get(_run(run_id), Run)


def update_run(run_id: str, request: RunUpdate, *, revision: int, key: str | None) -> Call[Run]:
    return Call(
        "PATCH",
        _run(run_id),
        json_decoder(Run),
        headers={**_headers("application/json", key), "if-match": f'"{revision}"'},
        body=request.model_dump_json(exclude_unset=True).encode(),
    )


def pause_run(run_id: str, *, key: str | None) -> Call[Run]:
    return _post(_run(run_id, "/pause"), None, Run, key=key)


def resume_run(run_id: str, *, key: str | None) -> Call[Run]:
    return _post(_run(run_id, "/resume"), None, Run, key=key)


def rebuild_run(run_id: str, *, key: str | None) -> Call[Rebuild]:
    return _post(_run(run_id, "/rebuild"), None, Rebuild, key=key)


def lease_prompt_batch(
    run_id: str, request: PromptBatchRequest, *, key: str | None
) -> Call[PromptBatch]:
    path = _run(run_id, "/prompt-batches")
    return _post(path, request, PromptBatch, key=key, wait_s=request.wait_s)


def extend_lease(lease_id: str, request: ExtendRequest, *, key: str | None) -> Call[Lease]:
    return _post(_lease(lease_id, "/extend"), request, Lease, key=key, is_heartbeat=True)


def release_lease(lease_id: str, request: ReleaseRequest, *, key: str | None) -> Call[Released]:
    return _post(_lease(lease_id, "/release"), request, Released, key=key)


def report_groups(lease_id: str, report: Report | bytes, *, key: str | None) -> Call[Receipt]:
    is_cargo = isinstance(report, bytes)
    return Call(
        "POST",
        _lease(lease_id, "/groups"),
        json_decoder(Receipt),
        headers=_headers(SAFETENSORS_MEDIA_TYPE if is_cargo else "application/json", key),
        body=report if isinstance(report, bytes) else report.model_dump_json().encode(),
    )


def lease_training_batch(
    run_id: str, request: TrainingBatchRequest, *, key: str | None
) -> Call[TrainingFrame]:
    accept = f"{FRAME_MEDIA_TYPE}, application/problem+json"
    return Call(
        "POST",
        _run(run_id, "/training-batches"),
        decode_frame,
        headers={**_headers("application/json", key), "accept": accept},
        body=request.model_dump_json().encode(),
        wait_s=request.wait_s,
    )


def extend_training_batch(lease_id: str, request: ExtendRequest, *, key: str | None) -> Call[Lease]:
    return _post(_training_batch(lease_id, "/extend"), request, Lease, key=key, is_heartbeat=True)


def ack_training_batch(lease_id: str, request: AckRequest, *, key: str | None) -> Call[AckReceipt]:
    return Call(
        "POST",
        _training_batch(lease_id, "/ack"),
        json_decoder(AckReceipt),
        headers=_headers("application/json", key),
        body=request.model_dump_json(exclude_none=True).encode(),
    )


def release_training_batch(
    lease_id: str, request: ReleaseRequest, *, key: str | None
) -> Call[Released]:
    return _post(_training_batch(lease_id, "/release"), request, Released, key=key)


def announce_policy_version(
    run_id: str, request: PolicyVersionRequest, *, key: str | None
) -> Call[AckReceipt]:
    return _post(_run(run_id, "/policy-versions"), request, AckReceipt, key=key)


def post_predictions(
    run_id: str, request: PredictionsRequest, *, key: str | None
) -> Call[PredictionsReceipt]:
    return _post(_run(run_id, "/predictions"), request, PredictionsReceipt, key=key)


def get_curriculum(run_id: str, *, window: int | None) -> Call[CurriculumView]:
    return _get(_run(run_id, "/curriculum"), CurriculumView, window=window)


def get_history(run_id: str, *, limit: int | None, cursor: str | None) -> Call[HistoryPage]:
    return _get(_run(run_id, "/history"), HistoryPage, limit=limit, cursor=cursor)


def list_tasks(run_id: str, **params: str | int | None) -> Call[TaskPage]:
    return _get(_run(run_id, "/tasks"), TaskPage, **params)


def get_task(run_id: str, task_id: str) -> Call[TaskView]:
    return _get(_run(run_id, f"/tasks/{quote(task_id, safe='')}"), TaskView)


def health(name: Literal["livez", "readyz", "startupz"]) -> Call[Health]:
    return Call("GET", f"/{name}", json_decoder(Health), is_probe=True)
