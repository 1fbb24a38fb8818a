"""Every mutating call with every kind of bad input: refused by name, and nothing is changed.

The contract's own suite holds single faults of each field; this one compares everything that both
servers hold, before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from etude_proto.v1 import ProblemCode
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, problem, query
from support.sampler_app_redis import read_hot

TABLES = (
    "datasets",
    "tasks",
    "runs",
    "ledger",
    "task_statistics",
    "receipts",
    "policy_versions",
    "predictions",
)
NO_LEASE = "lease_" + "0" * 32
NO_BATCH = "tb_" + "0" * 32


@dataclass(frozen=True, slots=True)
class Place:
    """A live run: one prompt lease, one training lease, ready groups."""

    dataset: str
    run: str
    lease: str
    batch: str
    fence: int


@dataclass(frozen=True, slots=True)
class Call:
    """A mutating call: its path, a body that would be taken, and what an unknown id is called."""

    path: str
    body: dict[str, object] | None
    unknown: ProblemCode | None
    method: str = "POST"
    media_type: str = "application/json"


OUTCOME = {"components": {"format": 1}, "reward": 1, "success": True, "finish_reason": "stop"}
REPORT = {"groups": [{"task_id": "task_x", "attempts": [{"outcomes": [OUTCOME]}]}]}
RUN, LEASE, BATCH = "/v1/runs/{run}", "/v1/leases/{lease}", "/v1/training-batches/{batch}"
NO_RUN, LEASES = ProblemCode.RUN_NOT_FOUND, ProblemCode.LEASE_NOT_FOUND
CALLS = [
    Call("/v1/datasets", {"name": "more"}, None),
    Call("/v1/runs", {"name": "more", "dataset_id": "{dataset}"}, None),
    Call(RUN, {"name": "other"}, NO_RUN, method="PATCH"),
    Call(f"{RUN}/prompt-batches", {"num_tasks": 1, "worker": "w"}, NO_RUN),
    Call(f"{LEASE}/extend", {"fence": 1}, LEASES),
    Call(f"{LEASE}/release", {"fence": 1}, LEASES),
    Call(f"{LEASE}/groups", {"fence": 1, **REPORT}, LEASES),
    Call(f"{RUN}/training-batches", {"trainer": "t"}, NO_RUN),
    Call(f"{BATCH}/extend", {"fence": 1}, LEASES),
    Call(f"{BATCH}/ack", {"fence": 1, "policy_version": 1, "weights_uri": "x"}, LEASES),
    Call(f"{BATCH}/release", {"fence": 1}, LEASES),
    Call(f"{RUN}/policy-versions", {"policy_version": 1}, NO_RUN),
    Call(
        f"{RUN}/predictions",
        {"policy_version": 0, "predictions": [{"task_id": "task_x", "value": 0.5}]},
        NO_RUN,
    ),
    Call(f"{RUN}/pause", None, NO_RUN),
    Call(f"{RUN}/resume", None, NO_RUN),
]
JSON_CALLS = [call for call in CALLS if call.body is not None]


def everything(database_url: str, redis_url: str, run_id: str) -> object:
    """All that both servers hold and a refusal must leave alone."""
    rows = {
        name: sorted(map(repr, query(database_url, f"SELECT * FROM {name}"))) for name in TABLES
    }
    return rows, read_hot(redis_url, run_id).without_deadlines()


@pytest.fixture
async def place(valkey_api: Api) -> Place:
    """A run in the middle of its work."""
    api = valkey_api
    run = await api.create_run(limits={"training_batch_groups": 2})
    await api.report_cargo(await api.lease(run.id, 4))
    batch = (await api.train(run.id)).manifest.lease
    lease = (await api.lease(run.id, 3)).lease
    assert lease is not None
    assert batch is not None
    return Place(run.dataset_id, run.id, lease.id, batch.id, lease.fence)


def path_of(call: Call, place: Place, **other: str) -> str:
    """The path with the place's ids, or others."""
    ids = {"run": place.run, "lease": place.lease, "batch": place.batch, **other}
    return call.path.format(**ids)


def faults(call: Call) -> Iterator[tuple[str, bytes, dict[str, str], int, str]]:
    """Name, body, headers, status and code of each fault that a JSON call may have."""
    yield "no JSON", b'{"fence": ', {}, 422, "payload_invalid"
    yield "no object", b"[1, 2]", {}, 422, "payload_invalid"
    yield "empty", b"", {}, 422, "payload_invalid"
    yield "unknown field", b'{"fence": 1, "fency": 2}', {}, 422, "payload_invalid"
    yield "not UTF-8", b'{"\xff\xfe": 1}', {}, 422, "payload_invalid"
    yield "too deep", b"[" * 10_000, {}, 422, "payload_invalid"
    plain = {"Content-Type": "text/plain"}
    yield "another media type", b"{}", plain, 415, "unsupported_media_type"
    other = {"Content-Encoding": "br"}
    yield "another encoding", b"{}", other, 415, "unsupported_media_type"
    broken = {"Content-Encoding": "gzip"}
    yield "no gzip at all", b"{}", broken, 400, "bad_request"
    yield "no zstd at all", b"{}", {"Content-Encoding": "zstd"}, 400, "bad_request"


async def test_bad_bodies_of_every_call(
    valkey_api: Api, place: Place, database_url: str, valkey: RunningServer
) -> None:
    before = everything(database_url, valkey.url, place.run)
    for call in JSON_CALLS:
        tag = {"If-Match": '"1"'} if call.method == "PATCH" else {}
        for name, body, headers, status, code in faults(call):
            if name == "empty" and call.method == "PATCH":
                continue  # nothing to change is a change that may be asked for
            answer = await valkey_api.post(
                path_of(call, place), body, method=call.method, headers={**tag, **headers}
            )
            found = problem(answer, status, code)
            assert not found.retryable, (call.path, name)
            if code == "payload_invalid":
                assert found.errors, (call.path, name)
                assert all(e.pointer == "" or e.pointer[0] == "/" for e in found.errors)
    assert everything(database_url, valkey.url, place.run) == before


async def test_every_call_needs_its_key(
    valkey_api: Api, place: Place, database_url: str, valkey: RunningServer
) -> None:
    before = everything(database_url, valkey.url, place.run)
    for call in CALLS:
        for key, code in (
            (None, "idempotency_key_missing"),
            ("", "idempotency_key_missing"),
            ("k" * 256, "bad_request"),
            ("two words", "bad_request"),
        ):
            headers = {"Content-Type": call.media_type}
            if key is not None:
                headers["Idempotency-Key"] = key
            answer = await valkey_api.http.request(
                call.method, path_of(call, place), json=call.body, headers=headers
            )
            problem(answer, 400, code)
    answer = await valkey_api.http.post(
        f"/v1/datasets/{place.dataset}/tasks",
        content=b"{}",
        headers={"Content-Type": "application/x-ndjson"},
    )
    problem(answer, 400, "idempotency_key_missing")
    assert everything(database_url, valkey.url, place.run) == before


async def test_unknown_ids_of_every_call(
    valkey_api: Api, place: Place, database_url: str, valkey: RunningServer
) -> None:
    """Ids of nothing, ids of the other kind, and well-formed ids whose signature is not ours."""
    before = everything(database_url, valkey.url, place.run)
    forged_lease, forged_batch = place.lease[:-8] + "0" * 8, place.batch[:-8] + "0" * 8
    strangers = [
        {"run": "run_000000000000", "lease": NO_LEASE, "batch": NO_BATCH},
        {"run": "nonsense", "lease": "nonsense", "batch": "nonsense"},
        {"run": place.lease, "lease": place.batch, "batch": place.lease},
        {"run": "run_" + "%C3%A9" * 6, "lease": forged_lease, "batch": forged_batch},
        {"run": "run_%FF%FE", "lease": "lease_%FF", "batch": "tb_" + "é" * 32},
    ]
    for call in CALLS:
        if call.unknown is None:
            continue
        for ids in strangers:
            tag = {"If-Match": '"1"'} if call.method == "PATCH" else {}
            answer = await valkey_api.post(
                path_of(call, place, **ids), call.body, method=call.method, headers=tag
            )
            problem(answer, 404, call.unknown)
    assert everything(database_url, valkey.url, place.run) == before


async def test_reading_calls_with_unknown_ids(valkey_api: Api, place: Place) -> None:
    for path, code in (
        ("/v1/datasets/ds_none", "dataset_not_found"),
        ("/v1/runs/run_none", "run_not_found"),
        ("/v1/runs/run_none/curriculum", "run_not_found"),
        ("/v1/runs/run_none/history", "run_not_found"),
        ("/v1/runs/run_none/tasks", "run_not_found"),
        ("/v1/runs/run_none/tasks/task_none", "run_not_found"),
        (f"/v1/runs/{place.run}/tasks/task_none", "task_not_found"),
        (f"/v1/runs/{place.run}/tasks/{'x' * 5000}", "task_not_found"),
    ):
        problem(await valkey_api.get(path), 404, code)


@pytest.mark.parametrize("fence", [-1, 2**53, 1.5, "1", None, True])
async def test_fences_that_are_no_fences(valkey_api: Api, place: Place, fence: object) -> None:
    for path in (LEASE + "/extend", LEASE + "/release", BATCH + "/extend", BATCH + "/release"):
        at = path.format(lease=place.lease, batch=place.batch)
        found = problem(await valkey_api.post(at, {"fence": fence}), 422, "payload_invalid")
        assert [item.pointer for item in found.errors] == ["/fence"]


async def test_revisions_guard_changes(valkey_api: Api, place: Place) -> None:
    path, body = f"/v1/runs/{place.run}", {"name": "renamed"}
    problem(await valkey_api.post(path, body, method="PATCH"), 400, "bad_request")
    for tag in ('"0"', '"2"', '"x"', "*", '"99999999999999999999"', '""'):
        answer = await valkey_api.post(path, body, method="PATCH", headers={"If-Match": tag})
        problem(answer, 412, "revision_mismatch")
    plain = {"Idempotency-Key": "odd", "Content-Type": "application/json"}
    odd = [*((n.encode(), v.encode()) for n, v in plain.items()), (b"If-Match", b'"\xb2"')]
    problem(await valkey_api.http.patch(path, json=body, headers=odd), 412, "revision_mismatch")
    good = await valkey_api.post(path, body, method="PATCH", headers={"If-Match": '"1"'})
    assert (good.status_code, good.json()["name"], good.json()["revision"]) == (200, "renamed", 2)
    run = await valkey_api.get(path)
    assert run.headers["etag"] == '"2"'
    stale = await valkey_api.post(
        path, {"name": "again"}, method="PATCH", headers={"If-Match": '"1"'}
    )
    problem(stale, 412, "revision_mismatch")
