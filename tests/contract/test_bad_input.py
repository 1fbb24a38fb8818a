"""Bad input: every fault gets its problem document and its code, and changes nothing."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from etude_client import AsyncEtudeClient
from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import (
    CurriculumView,
    DatasetCreate,
    Lease,
    Problem,
    PromptBatchRequest,
    Report,
    RunCreate,
)

from .flow import GROUP_SIZE, LIMITS, cargo_for, report_for, tasks

JSON = {"content-type": "application/json"}
CARGO = {"content-type": SAFETENSORS_MEDIA_TYPE}


@dataclass(frozen=True, slots=True)
class World:
    """A run with one live lease of two tasks."""

    run_id: str
    dataset_id: str
    lease: Lease
    task_ids: tuple[str, str]
    other_task_id: str

    def report(self) -> Report:
        """A report that would be applied."""
        return report_for(self.lease, self.task_ids[0], 0)


@dataclass(frozen=True, slots=True)
class Bad:
    """A request and how it must be refused."""

    name: str
    method: str
    path: str
    status: int
    code: str
    body: Callable[[World], bytes] | bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    key: str | None = "bad"


def edited(*path: str | int, value: object) -> Callable[[World], bytes]:
    """The good report with one value replaced."""

    def body(world: World) -> bytes:
        document = world.report().model_dump(mode="json")
        node: Any = document
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
        return json.dumps(document).encode()

    return body


def good(world: World) -> bytes:
    """A body that is right for a report."""
    return world.report().model_dump_json().encode()


def cargo(world: World) -> bytes:
    """A safetensors body that would be admitted."""
    return cargo_for(world.report(), 0)


def _first_outcome(field_name: str, value: object) -> Callable[[World], bytes]:
    return edited("groups", 0, "attempts", 0, "outcomes", 0, field_name, value=value)


def _not_a_number(text: bytes) -> Callable[[World], bytes]:
    return lambda world: good(world).replace(b'"reward":1.0', b'"reward":' + text, 1)


def _foreign_task(world: World) -> bytes:
    return report_for(world.lease, world.other_task_id, 0).model_dump_json().encode()


def _stale_fence(world: World) -> bytes:
    return json.dumps({"fence": world.lease.fence + 1}).encode()


def forged(kind: str, value: object) -> str:
    """A cursor that no answer ever held."""
    return base64.urlsafe_b64encode(json.dumps([kind, value]).encode()).decode().rstrip("=")


RUNS, DATASETS = "/v1/runs", "/v1/datasets"
RUN, LEASE = f"{RUNS}/{{run}}", "/v1/leases/{lease}"
GROUPS, BATCHES = f"{LEASE}/groups", f"{RUN}/prompt-batches"
BIG = b'{"name": "' + b"x" * (2 << 20) + b'"}'

CASES = [
    Bad("no key", "POST", DATASETS, 400, "idempotency_key_missing", b'{"name": "x"}', key=None),
    Bad("long key", "POST", DATASETS, 400, "bad_request", b'{"name": "x"}', key="k" * 256),
    Bad("malformed JSON", "POST", DATASETS, 422, "payload_invalid", b'{"name": '),
    Bad("no JSON object", "POST", DATASETS, 422, "payload_invalid", b"[1]"),
    Bad("deep JSON", "POST", DATASETS, 422, "payload_invalid", b"[" * 100_000),
    Bad("not UTF-8", "POST", DATASETS, 422, "payload_invalid", b'{"name": "\xff"}'),
    Bad("unknown field", "POST", DATASETS, 422, "payload_invalid", b'{"name": "x", "n": 1}'),
    Bad("wrong type", "POST", DATASETS, 422, "payload_invalid", b'{"name": 1}'),
    Bad("empty", "POST", DATASETS, 422, "payload_invalid"),
    Bad("too large", "POST", DATASETS, 413, "body_too_large", BIG),
    Bad("bomb", "POST", DATASETS, 413, "body_too_large", gzip.compress(BIG),
        {**JSON, "content-encoding": "gzip"}),
    Bad("broken gzip", "POST", DATASETS, 400, "bad_request", b"nonsense",
        {**JSON, "content-encoding": "gzip"}),
    Bad("half a gzip", "POST", DATASETS, 400, "bad_request", gzip.compress(b'{"name": "x"}')[:-9],
        {**JSON, "content-encoding": "gzip"}),
    Bad("unknown encoding", "POST", DATASETS, 415, "unsupported_media_type", b"{}",
        {**JSON, "content-encoding": "br"}),
    Bad("unknown type", "POST", DATASETS, 415, "unsupported_media_type", b"<x/>",
        {"content-type": "text/xml"}),
    Bad("import as JSON", "POST", f"{DATASETS}/{{dataset}}/tasks", 415, "unsupported_media_type"),
    Bad("import to nowhere", "POST", f"{DATASETS}/ds_none/tasks", 404, "dataset_not_found", b"{}",
        {"content-type": "application/x-ndjson"}),
    Bad("unknown path", "GET", "/v1/nothing", 404, "not_found"),
    Bad("unknown method", "PUT", RUN, 405, "method_not_allowed"),
    Bad("unknown dataset", "GET", f"{DATASETS}/ds_none", 404, "dataset_not_found"),
    Bad("unknown run", "GET", f"{RUNS}/run_none", 404, "run_not_found"),
    Bad("NUL in a path", "GET", f"{RUNS}/%00", 400, "bad_request"),
    Bad("NUL in a query", "GET", f"{RUN}/tasks?source=%00", 400, "bad_request"),
    Bad("forged text cursor", "GET", f"{RUNS}?cursor={forged('runs', chr(0))}", 410,
        "cursor_expired"),
    Bad("half a character in a cursor", "GET", f"{RUNS}?cursor={forged('runs', chr(0xD800))}", 410,
        "cursor_expired"),
    Bad("the same in draws", "GET", f"{RUN}/draws?cursor={forged('draws', chr(0xD800))}", 410,
        "cursor_expired"),
    Bad("the same in datasets", "GET", f"{DATASETS}?cursor={forged('datasets', chr(0xD800))}", 410,
        "cursor_expired"),
    Bad("the same in keys", "GET", f"/v1/keys?cursor={forged('keys', chr(0xD800))}", 410,
        "cursor_expired"),
    Bad("forged number cursor", "GET", f"{RUN}/history?cursor={forged('history', 10**30)}", 410,
        "cursor_expired"),
    Bad("forged type cursor", "GET", f"{RUN}/history?cursor={forged('history', True)}", 410,
        "cursor_expired"),
    Bad("unknown task", "GET", f"{RUN}/tasks/task_none", 404, "task_not_found"),
    Bad("unknown lease", "POST", "/v1/leases/lease_none/extend", 404, "lease_not_found",
        b'{"fence": 1}'),
    Bad("unknown training batch", "POST", "/v1/training-batches/tb_none/extend", 404,
        "lease_not_found", b'{"fence": 1}'),
    Bad("limit over the maximum", "GET", f"{RUNS}?limit=1001", 422, "payload_invalid"),
    Bad("limit zero", "GET", f"{RUN}/tasks?limit=0", 422, "payload_invalid"),
    Bad("unknown order", "GET", f"{RUN}/tasks?order=random", 422, "payload_invalid"),
    Bad("foreign cursor", "GET", f"{RUNS}?cursor=abc", 410, "cursor_expired"),
    Bad("run of no dataset", "POST", RUNS, 404, "dataset_not_found",
        b'{"name": "x", "dataset_id": "ds_none"}'),
    Bad("unknown preset", "POST", RUNS, 422, "payload_invalid",
        lambda w: json.dumps({"name": "x", "dataset_id": w.dataset_id,
                              "curriculum": {"preset": "magic"}}).encode()),
    Bad("limits that contradict", "POST", RUNS, 422, "payload_invalid",
        lambda w: json.dumps({"name": "x", "dataset_id": w.dataset_id,
                              "limits": {"cap_groups": 1}}).encode()),
    Bad("no revision", "PATCH", RUN, 400, "bad_request", b'{"name": "x"}'),
    Bad("old revision", "PATCH", RUN, 412, "revision_mismatch", b'{"name": "x"}',
        {**JSON, "if-match": '"99"'}),
    Bad("oversized batch", "POST", BATCHES, 422, "payload_invalid",
        b'{"worker": "w", "num_tasks": 99999}'),
    Bad("batch over the run's limit", "POST", BATCHES, 422, "payload_invalid",
        b'{"worker": "w", "num_tasks": 4096}'),
    Bad("long wait", "POST", BATCHES, 422, "payload_invalid",
        b'{"worker": "w", "num_tasks": 1, "wait_s": 31}'),
    Bad("fence of somebody else", "POST", f"{LEASE}/extend", 409, "lease_superseded", _stale_fence),
    Bad("release with that fence", "POST", f"{LEASE}/release", 409, "lease_superseded",
        _stale_fence),
    Bad("task of no lease", "POST", GROUPS, 422, "task_not_leased", _foreign_task),
    Bad("reward NaN", "POST", GROUPS, 422, "payload_invalid", _not_a_number(b"NaN")),
    Bad("reward infinite", "POST", GROUPS, 422, "payload_invalid", _not_a_number(b"1e999")),
    Bad("component over one", "POST", GROUPS, 422, "payload_invalid",
        _first_outcome("components", {"format": 1.5})),
    Bad("unknown finish reason", "POST", GROUPS, 422, "payload_invalid",
        _first_outcome("finish_reason", "bored")),
    Bad("no group", "POST", GROUPS, 422, "payload_invalid", edited("groups", value=[])),
    Bad("report as text", "POST", GROUPS, 415, "unsupported_media_type", good,
        {"content-type": "text/plain"}),
    Bad("cargo cut off", "POST", GROUPS, 422, "trajectory_mismatch", lambda w: cargo(w)[:-1],
        dict(CARGO)),
    Bad("cargo of noise", "POST", GROUPS, 422, "trajectory_mismatch", b"\x10" + bytes(40),
        dict(CARGO)),
    Bad("cargo with a wrong report", "POST", GROUPS, 422, "payload_invalid",
        lambda w: cargo(w).replace(b'\\"fence\\"', b'\\"fency\\"'), dict(CARGO)),
    Bad("predictions for nobody", "POST", f"{RUN}/predictions", 404, "task_not_found",
        b'{"policy_version": 0, "predictions": [{"task_id": "task_none", "value": 0.5}]}'),
    Bad("announcement in a training run", "POST", f"{RUN}/policy-versions", 409,
        "illegal_transition", b'{"policy_version": 1}'),
]  # fmt: skip


@pytest.fixture
async def world(client: AsyncEtudeClient) -> World:
    """Dataset, run and lease, made through the front door."""
    dataset = await client.create_dataset(DatasetCreate(name="sums"))
    await client.import_tasks(dataset.id, tasks(6))
    create = RunCreate(name="run", dataset_id=dataset.id, group_size=GROUP_SIZE, limits=LIMITS)
    run = await client.create_run(create)
    request = PromptBatchRequest(num_tasks=2, worker="worker-1")
    batch = await client.lease_prompt_batch(run.id, request)
    assert batch.lease is not None
    first, second = (item.task.id for item in batch.items)
    page = await client.list_tasks(run.id)
    other = next(item.id for item in page.items if item.id not in (first, second))
    return World(run.id, dataset.id, batch.lease, (first, second), other)


def unmoved(view: CurriculumView) -> dict[str, object]:
    """What a refused call must not change."""
    return {
        "counts": view.counts.model_dump(),
        "applied": view.num_groups_applied,
        "late": view.num_groups_late,
        "version": view.policy_version,
    }


async def refusals(app: FastAPI, world: World) -> list[str]:
    """Everything that is wrong with the answers to `CASES`."""
    wrong = []
    places = {"run": world.run_id, "lease": world.lease.id, "dataset": world.dataset_id}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        for case in CASES:
            path = case.path.format(**places)
            body = case.body(world) if callable(case.body) else case.body
            key = {} if case.key is None else {"idempotency-key": f"{case.key}-{case.name[:3]}"}
            headers = {**case.headers, **{k: v.replace(" ", "_") for k, v in key.items()}}
            answer = await http.request(case.method, path, content=body, headers=headers)
            fault = _fault(case, answer)
            if fault:
                wrong.append(f"{case.name}: {fault}")
    return wrong


def _fault(case: Bad, answer: httpx.Response) -> str | None:
    if answer.headers.get("content-type") != "application/problem+json":
        return f"{answer.status_code} {answer.headers.get('content-type')} {answer.text[:200]}"
    problem = Problem.model_validate_json(answer.content)
    have = (answer.status_code, problem.status, problem.code.value)
    if have != (case.status, case.status, case.code):
        return f"{have}: {problem.detail}"
    if not problem.request_id or not problem.detail or problem.retryable:
        return f"incomplete: {problem}"
    return None


async def test_bad_input_is_refused_by_name_and_changes_nothing(
    sampler: FastAPI, client: AsyncEtudeClient, world: World
) -> None:
    before = unmoved(await client.get_curriculum(world.run_id))
    assert await refusals(sampler, world) == []
    assert unmoved(await client.get_curriculum(world.run_id)) == before
    receipt = await client.report_groups(world.lease.id, world.report())
    assert receipt.num_remaining == 1


async def test_a_wrong_field_is_named(client: AsyncEtudeClient, sampler: FastAPI) -> None:
    transport = httpx.ASGITransport(sampler)
    body = {"name": "x", "dataset_id": "ds_1", "limits": {"max_staleness": -1}, "groupsize": 2}
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        answer = await http.post("/v1/runs", json=body, headers={"idempotency-key": "k"})
    problem = Problem.model_validate_json(answer.content)
    assert {item.pointer for item in problem.errors} == {"/limits/max_staleness", "/groupsize"}
