"""Imports into a real sampler: idempotent by content, bad lines named, good lines stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from etude_client import EtudeClient
from etude_client.sources.upload import Summary, upload
from etude_proto.rows.stream import Row, RowFault
from etude_proto.v1 import Dataset, DatasetCreate, ImportReceipt, RunCreate, Split
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query
from support.sampler_app_replica import replica
from support.workload import lines, task


async def dataset_of(api: Api, dataset_id: str) -> Dataset:
    """The dataset with its counts."""
    return parse(await api.get(f"/v1/datasets/{dataset_id}"), Dataset)


async def test_the_same_tasks_again_create_nothing(valkey_api: Api, database_url: str) -> None:
    api = valkey_api
    dataset_id = await api.create_dataset("unit")
    made = [task(n, split=Split.HELD_OUT if n % 5 == 0 else Split.TRAIN) for n in range(1200)]
    first = parse(await api.upload(dataset_id, lines(made)), ImportReceipt)
    assert (first.num_lines, first.num_created, first.num_existing) == (1200, 1200, 0)
    again = parse(await api.upload(dataset_id, lines(made[::-1] + made)), ImportReceipt)
    assert (again.num_lines, again.num_created, again.num_existing) == (2400, 0, 2400)
    found = await dataset_of(api, dataset_id)
    assert (found.num_tasks, found.num_train, found.num_held_out) == (1200, 960, 240)
    assert found.sources == {"unit": 1200}
    ordinals = query(database_url, "SELECT ordinal FROM tasks ORDER BY 1")
    assert [row[0] for row in ordinals] == list(range(1200)), "in order of import, no holes"
    other = task(3).model_copy(update={"source": "elsewhere", "metadata": {"note": 1}})
    same = parse(await api.upload(dataset_id, lines([other])), ImportReceipt)
    assert same.num_existing == 1, "source and metadata are not content"
    assert (await api.create_dataset("unit")) == dataset_id


async def test_draws_from_a_fresh_import_go_by_the_key(valkey_api: Api, database_url: str) -> None:
    """Statistics that know other datasets only make the planner read all rows for a batch."""
    api = valkey_api
    known = await api.create_dataset("known")
    await api.upload(known, lines([task(n) for n in range(100)]))
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute("ALTER TABLE tasks SET (autovacuum_enabled = false)")
        connection.execute("ANALYZE tasks")
    fresh = await api.create_dataset("fresh")
    await api.upload(fresh, lines([task(n) for n in range(5000)]))
    explain = "EXPLAIN SELECT body FROM tasks WHERE dataset_id = %s AND ordinal = ANY('{1,2,3}')"
    before = " ".join(str(row[0]) for row in query(database_url, explain, fresh))
    await api.create_run(dataset_id=fresh)
    after = " ".join(str(row[0]) for row in query(database_url, explain, fresh))
    assert "tasks_pkey" in after
    assert "tasks_pkey" not in before, "the premise"


async def test_bad_lines_are_named_and_the_good_ones_stored(valkey_api: Api) -> None:
    good = [line.encode() for line in lines([task(n) for n in range(4)]).decode().splitlines()]
    bad = {
        3: (b'{"messages": []}', "/messages"),
        5: (b'{"messages": "hello"}', "/messages"),
        6: (b"not JSON", ""),
        8: (b'{"messages": [{"role": "wizard", "content": "x"}]}', "/messages/0/role"),
        9: (b'{"messages": [{"role": "user", "content": "\xff"}]}', ""),
        10: (b"[" * 5000, ""),
        11: (good[0][:-1] + b', "extra": 1}', "/extra"),
        13: (good[0][:-1] + b', "metadata": {"a": NaN}}', "/metadata"),
        14: (good[0].replace(b'"format"', b'"No Name"'), "/subtasks/0"),
        15: (good[0].replace(b'"format"', b'"uniform"'), "/subtasks/0"),
        16: (good[0].replace(b'"format"', b'"hard"'), "/subtasks/0"),
    }
    body = [bad[n][0] if n in bad else b"" for n in range(1, 17)]
    body[0], body[1], body[6], body[11] = good
    dataset_id = await valkey_api.create_dataset("mixed")
    receipt = parse(await valkey_api.upload(dataset_id, b"\n".join(body)), ImportReceipt)
    assert (receipt.num_created, receipt.num_rejected) == (4, len(bad))
    assert receipt.num_lines == 4 + len(bad), "blank lines are not tasks"
    assert {error.line for error in receipt.errors} == bad.keys(), "but they count as lines"
    for error in receipt.errors:
        assert error.pointer.startswith(bad[error.line][1]), error
        assert error.detail
    assert (await dataset_of(valkey_api, dataset_id)).num_tasks == 4


async def test_only_so_many_faults_are_listed(valkey_api: Api) -> None:
    dataset_id = await valkey_api.create_dataset("bad")
    receipt = parse(await valkey_api.upload(dataset_id, b"{}\n" * 1500), ImportReceipt)
    assert (receipt.num_rejected, len(receipt.errors)) == (1500, 1000)


async def test_imports_at_once_give_each_task_one_ordinal(
    pair: tuple[Api, Api], database_url: str
) -> None:
    dataset_id = await pair[0].create_dataset("crowded")
    made = [task(n) for n in range(900)]
    parts = [lines(made[first : first + 600]) for first in (0, 100, 200, 300)]
    answers = await asyncio.gather(
        *(pair[i % 2].upload(dataset_id, part) for i, part in enumerate(parts))
    )
    receipts = [parse(answer, ImportReceipt) for answer in answers]
    assert sum(receipt.num_created for receipt in receipts) == 900
    assert query(database_url, "SELECT count(DISTINCT ordinal), max(ordinal) FROM tasks") == [
        (900, 899)
    ]


async def test_tasks_imported_later_do_not_disturb_a_run(valkey_api: Api) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=4)
    await api.upload(run.dataset_id, lines([task(n) for n in range(4, 9)]))
    batch = await api.lease(run.id, 9)
    assert len(batch.items) == run.num_tasks == 4
    fresh = await api.create_run(dataset_id=run.dataset_id)
    assert fresh.num_tasks == 9


async def test_runs_need_something_to_draw(valkey_api: Api) -> None:
    api = valkey_api
    empty = await api.create_dataset("empty")
    held = await api.create_dataset("held", tasks=[task(1, split=Split.HELD_OUT)])
    full = await api.create_dataset("full", tasks=[task(1)])
    for body, pointer in (
        ({"dataset_id": empty}, "/dataset_id"),
        ({"dataset_id": held}, "/dataset_id"),
        ({"dataset_id": full, "sources": ["other"]}, "/sources"),
        ({"dataset_id": full, "curriculum": {"preset": "magic"}}, "/curriculum/preset"),
        (
            {"dataset_id": full, "curriculum": {"weigher": {"name": "rds", "knobs": {"eps": 2}}}},
            "/curriculum/weigher/knobs/eps",
        ),
        ({"dataset_id": full, "curriculum": {"subtasks": ["juggling"]}}, "/curriculum/subtasks/0"),
    ):
        answer = await api.post("/v1/runs", {"name": "bad", **body})
        found = problem(answer, 422, "payload_invalid")
        assert [item.pointer for item in found.errors] == [pointer]
    assert (await api.get("/v1/runs")).json()["items"] == []


def rows() -> Iterator[Row | RowFault]:
    """Rows as the readers of `etude_sampler.datasets` give them, one of them bad."""
    for n in range(1100):
        if n == 700:
            yield RowFault(n + 1, "/question", "empty", "file")
        yield Row(n + 1, task(n, source="rows"), "file")


@pytest.mark.slow
async def test_the_uploader_against_a_real_sampler(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with replica(database_url, valkey.url, log=short_folder / "log") as served:

        def twice() -> list[Summary]:
            found = []
            with EtudeClient(served.url) as client:
                dataset = client.create_dataset(DatasetCreate(name="rows"))
                for _ in range(2):
                    summary = Summary()
                    upload(client, dataset.id, rows(), summary=summary, on_progress=lambda _: None)
                    found.append(summary)
                run = client.create_run(RunCreate(name="rows", dataset_id=dataset.id))
                assert run.num_tasks == 1100
            return found

        first, second = await asyncio.to_thread(twice)
    assert (first.num_created, first.num_existing, len(first.faults)) == (1100, 0, 1)
    assert (second.num_created, second.num_existing, second.num_rows) == (0, 1100, 1101)
    assert first.sources == {"rows": 1100}
    ((body,),) = query(database_url, "SELECT body FROM tasks WHERE ordinal = 7")
    assert isinstance(body, bytes)
    assert json.loads(body)["messages"][0]["content"] == "question 7"
