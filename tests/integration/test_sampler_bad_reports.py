"""Reports with impossible values, trajectories that disagree, and bodies that are bombs."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import ImportReceipt, Receipt
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws, read_hot
from support.workload import cargo, lines, report_of, task

OUTCOME = ("groups", 0, "attempts", 0, "outcomes", 0)
BAD_VALUES: list[tuple[tuple[str | int, ...], object]] = [
    ((*OUTCOME, "reward"), float("nan")),
    ((*OUTCOME, "reward"), float("inf")),
    ((*OUTCOME, "reward"), float("-inf")),
    ((*OUTCOME, "reward"), 1e300),
    ((*OUTCOME, "reward"), -1e300),
    ((*OUTCOME, "reward"), 10**400),
    ((*OUTCOME, "reward"), "1.0"),
    ((*OUTCOME, "reward"), None),
    ((*OUTCOME, "shaping"), float("nan")),
    ((*OUTCOME, "shaping"), 1e300),
    ((*OUTCOME, "components", "format"), float("nan")),
    ((*OUTCOME, "components", "format"), 1.0000001),
    ((*OUTCOME, "components", "format"), -0.1),
    ((*OUTCOME, "components", "format"), True),
    ((*OUTCOME, "components", "Not-A-Name"), 1.0),
    ((*OUTCOME, "success"), 1),
    ((*OUTCOME, "success"), "true"),
    ((*OUTCOME, "finish_reason"), "crashed"),
    ((*OUTCOME, "num_tokens"), -1),
    ((*OUTCOME, "num_tokens"), 2**63),
    ((*OUTCOME, "num_tokens"), 1.5),
    ((*OUTCOME, "num_turns"), -1),
    ((*OUTCOME, "num_turns"), 2**70),
    ((*OUTCOME, "min_policy_version"), -1),
    ((*OUTCOME, "min_policy_version"), 2**31),
    ((*OUTCOME, "tokens"), [1, 2, 3]),
    (("groups", 0, "attempts", 0, "scaffold_level"), -1),
    (("groups", 0, "attempts", 0, "scaffold_kind"), "No Kind"),
    (("groups", 0, "attempts", 0, "outcomes"), []),
    (("groups", 0, "attempts"), []),
    (("groups", 0, "task_id"), "no id"),
    (("groups",), []),
    (("worker",), "w" * 129),
    (("worker",), "NUL \x00"),
    (("fence",), "1"),
]


def changed(document: object, path: tuple[str | int, ...], value: object) -> object:
    """The document with one value replaced or added."""
    if not path:
        return value
    head, *tail = path
    if isinstance(document, dict):
        return {**document, head: changed(document.get(head), tuple(tail), value)}
    assert isinstance(document, list)
    assert isinstance(head, int)
    rest = [*document]
    rest[head] = changed(rest[head], tuple(tail), value)
    return rest


async def test_impossible_values_are_named_and_change_nothing(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    path = f"/v1/leases/{batch.lease.id}/groups"
    before = read_hot(valkey.url, run.id).without_deadlines()
    good = report_of(batch).model_dump(mode="json")
    for where, value in BAD_VALUES:
        body = json.dumps(changed(good, where, value)).encode()
        found = problem(await api.post(path, body), 422, "payload_invalid")
        pointer = "/" + "/".join(map(str, where))
        pointers = [item.pointer for item in found.errors]
        assert any(one.startswith(pointer) for one in pointers), (where, value, pointers)
    assert query(database_url, "SELECT count(*) FROM ledger") == [(0,)]
    assert read_hot(valkey.url, run.id).without_deadlines() == before
    assert len((await api.reported(batch)).groups) == 4


async def test_the_largest_values_that_are_taken_break_nothing(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Whatever the contract admits can be folded, announced, viewed and rebuilt."""
    api = valkey_api
    curriculum = {"preset": "dscl_scalar"}
    run = await api.create_run(mode="curriculum_only", curriculum=curriculum)
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    document = report_of(batch).model_dump(mode="json")
    for name, values in (
        ("reward", (1e6, -1e6)),
        ("shaping", (1e6, -1e6)),
        ("num_tokens", (2**31 - 1, 2**31 - 1)),
        ("num_turns", (2**31 - 1, 0)),
    ):
        for j, value in enumerate(values):
            where = ("groups", 0, "attempts", 0, "outcomes", j, name)
            document = changed(document, where, value)  # type: ignore[assignment]
    path = f"/v1/leases/{batch.lease.id}/groups"
    parse(await api.post(path, json.dumps(document).encode()), Receipt)
    await api.announced(run.id, 1)
    assert (await api.view(run.id)).num_groups_applied == 4
    assert (await api.task(run.id, batch.items[0].task.id)).statistics
    assert (await api.get(f"/v1/runs/{run.id}/history")).status_code == 200
    check_laws(valkey.url, run.id, num_tasks=12)


def header_of(body: bytes) -> dict[str, object]:
    """The JSON header of a safetensors body."""
    (size,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + size])
    assert isinstance(header, dict)
    return header


def with_header(body: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """The body with its header changed in place."""
    (size,) = struct.unpack("<Q", body[:8])
    header = header_of(body)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body[8 + size :]


def replaced(name: str, **fields: object) -> Callable[[dict[str, object]], object]:
    """Change fields of one tensor's entry."""

    def change(header: dict[str, object]) -> object:
        entry = header[name]
        assert isinstance(entry, dict)
        return entry.update(fields)

    return change


EMPTY = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
BAD_CARGO: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda body: b"",
    "short": lambda body: body[:7],
    "cut": lambda body: body[:-4],
    "longer": lambda body: body + b"\0\0\0\0",
    "huge header": lambda body: struct.pack("<Q", 1 << 40) + body[8:],
    "noise": lambda body: body[:8] + b"\xff" * (len(body) - 8),
    "no tokens": lambda body: with_header(body, lambda header: header.pop("tokens")),
    "other type": lambda body: with_header(body, replaced("tokens", dtype="I64")),
    "other shape": lambda body: with_header(body, replaced("tokens", shape=[31])),
    "negative": lambda body: with_header(body, replaced("tokens", shape=[-1])),
    "two axes": lambda body: with_header(body, replaced("tokens", shape=[4, 8])),
    "outside": lambda body: with_header(body, replaced("tokens", data_offsets=[0, 1 << 40])),
    "overlap": lambda body: with_header(body, replaced("logprobs", data_offsets=[0, 128])),
    "spare tensor": lambda body: with_header(body, lambda header: header.update(extra=EMPTY)),
    "no metadata": lambda body: with_header(body, lambda header: header.pop("__metadata__")),
    "other layout": lambda body: with_header(body, replaced("__metadata__", etude_layout="2")),
}  # fmt: skip


async def test_trajectories_that_disagree_change_nothing(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    path = f"/v1/leases/{batch.lease.id}/groups"
    before = read_hot(valkey.url, run.id).without_deadlines()
    good = cargo(batch.lease.fence, batch.items[0].task.id)

    async def post(body: bytes) -> object:
        return await api.post(path, body, content_type=SAFETENSORS_MEDIA_TYPE)

    for name, spoil in BAD_CARGO.items():
        answer = await api.post(path, spoil(good), content_type=SAFETENSORS_MEDIA_TYPE)
        assert problem(answer, 422, "trajectory_mismatch").detail, name
    fewer = cargo(batch.lease.fence, batch.items[0].task.id, (1.0, 0.0))
    report = header_of(fewer)["__metadata__"]
    assert isinstance(report, dict)
    spoiled = with_header(good, replaced("__metadata__", etude_report=report["etude_report"]))
    answer = await api.post(path, spoiled, content_type=SAFETENSORS_MEDIA_TYPE)
    assert "4 rollouts" in problem(answer, 422, "trajectory_mismatch").detail
    two = report_of(batch.model_copy(update={"items": batch.items[:2]})).model_dump_json()
    spoiled = with_header(good, replaced("__metadata__", etude_report=two))
    answer = await api.post(path, spoiled, content_type=SAFETENSORS_MEDIA_TYPE)
    problem(answer, 422, "trajectory_mismatch")
    spoiled = with_header(good, replaced("__metadata__", etude_report='{"fence": 1}'))
    answer = await api.post(path, spoiled, content_type=SAFETENSORS_MEDIA_TYPE)
    problem(answer, 422, "payload_invalid")
    assert query(database_url, "SELECT count(*) FROM ledger") == [(0,)]
    assert read_hot(valkey.url, run.id).without_deadlines() == before
    assert (await api.reported(batch, good)).groups[0].gate == "admitted"


async def test_cargo_has_a_size_and_a_place(valkey_api: Api, valkey: RunningServer) -> None:
    api = valkey_api
    run = await api.create_run(limits={"max_group_bytes": 1 << 12, "training_batch_groups": 1})
    batch = await api.lease(run.id, 1)
    assert batch.lease is not None
    large = cargo(batch.lease.fence, batch.items[0].task.id, num_tokens=200)
    found = problem(await api.report(batch, large), 422, "payload_invalid")
    assert "max_group_bytes" in found.detail
    own = await api.create_run(mode="curriculum_only")
    batch = await api.lease(own.id, 1)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    problem(await api.report(batch, body), 422, "payload_invalid")
    assert (await api.counts(own.id)).cargo_bytes == 0
    check_laws(valkey.url, own.id, num_tasks=12)


async def test_bodies_over_the_limit(database_url: str, valkey: RunningServer) -> None:
    """Plain and compressed alike, counted after decompression, and before it is unpacked."""
    async with sampler_app(database_url, valkey.url, max_body_bytes=1 << 16) as api:
        big = b'{"name": "' + b"x" * (1 << 16) + b'"}'
        bomb = b" " * (256 << 20)
        packed = {"gzip": gzip.compress(bomb), "zstd": zstandard.compress(bomb)}
        problem(await api.post("/v1/datasets", big), 413, "body_too_large")
        for encoding, body in packed.items():
            tracemalloc.start()
            answer = await api.post("/v1/datasets", body, headers={"Content-Encoding": encoding})
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            problem(answer, 413, "body_too_large")
            assert peak < 48 << 20, f"{encoding}: {peak >> 20} MiB at once"
        small = gzip.compress(b'{"name": "packed"}')
        answer = await api.post("/v1/datasets", small, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 201


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_an_import_is_no_way_in_for_bombs(valkey_api: Api, encoding: str) -> None:
    """Imports have no size, but lines do, and memory does not grow with what is unpacked."""
    dataset_id = await valkey_api.create_dataset("bombed")
    bomb = b" " * (256 << 20)
    packed = gzip.compress(bomb) if encoding == "gzip" else zstandard.compress(bomb)
    tracemalloc.start()
    answer = await valkey_api.upload(dataset_id, packed, Content_Encoding=encoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    problem(answer, 413, "body_too_large")
    assert peak < 96 << 20, f"{peak >> 20} MiB at once"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_compressed_imports_lose_nothing(valkey_api: Api, encoding: str) -> None:
    """Cut streams and streams after streams are refused, never taken in part without a word."""
    compress = gzip.compress if encoding == "gzip" else zstandard.compress
    first, second = [lines([task(n) for n in part]) for part in (range(5), range(5, 9))]
    dataset_id = await valkey_api.create_dataset("packed")
    good = await valkey_api.upload(dataset_id, compress(first), Content_Encoding=encoding)
    assert parse(good, ImportReceipt).num_created == 5
    cut = compress(first + second)[:-12]
    problem(await valkey_api.upload(dataset_id, cut, Content_Encoding=encoding), 400, "bad_request")
    joined = compress(first) + compress(second)
    answer = await valkey_api.upload(dataset_id, joined, Content_Encoding=encoding)
    if answer.status_code == 200:
        assert parse(answer, ImportReceipt).num_lines == 9
    else:
        problem(answer, 400, "bad_request")
