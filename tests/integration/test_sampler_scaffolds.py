"""Scaffolds as the sampler serves them: what goes with a task, whatever happens to the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from etude_proto.v1 import Aids, Message, PromptItem, Run, TaskCreate
from etude_sampler.embedded import RunningServer
from support.archives import read, written
from support.climbs import aided, climbs, documented, hinted, rungs
from support.replaying import replayed
from support.sampler_app import Api, problem, query, sampler_app
from support.sampler_app_redis import check_laws
from support.servers import Servers
from support.time_travel import Traveller
from support.workload import report_of, task
from support.workload_model import check_run

NEEDS = [6, 1, 13, 9]
"""Level that a task needs; 13 is never reached."""


def curriculum(name: str, **knobs: object) -> dict[str, object]:
    return {"preset": "uniform", "scaffold": {"name": name, "knobs": knobs}}


async def create(
    api: Api, tasks: Sequence[TaskCreate], name: str, *, seed: int = 7, **knobs: object
) -> Run:
    dataset = await api.create_dataset("aided", tasks=tasks)
    return await api.create_run(
        dataset_id=dataset,
        mode="curriculum_only",
        seed=seed,
        curriculum=curriculum(name, **knobs),
    )


async def climbing(api: Api, *, num_tasks: int = 8) -> Run:
    """A run that shows hints from the start."""
    return await create(api, hinted(num_tasks), "hints", start_version=0)


async def served(api: Api, run: Run, num: int) -> dict[int, PromptItem]:
    """A batch by ordinals; it is given back."""
    batch = await api.lease(run.id, num)
    assert batch.lease is not None
    answer = await api.post(f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence})
    assert answer.status_code == 200
    return {item.task.ordinal: item for item in batch.items}


async def test_a_climb_begins_below_the_last_success(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Needs 6: then from 4. Needs 1: from 1. Never: from 1. Needs 9: from 7."""
    run = await climbing(api)
    first = await api.lease(run.id, 8)
    assert all(rungs(item) == list(range(1, 13)) for item in first.items)
    receipt = await api.reported(first, climbs(first, NEEDS))
    verdicts = {
        (attempt.scaffold_level, attempt.verdict)
        for group in receipt.groups
        for attempt in group.attempts
    }
    assert {(0, "applied"), (1, "applied"), (6, "merged"), (9, "merged")} <= verdicts
    ladders = {n % 4: rungs(item)[0] for n, item in (await served(api, run, 8)).items()}
    assert ladders == {0: 4, 1: 1, 2: 1, 3: 7}
    second = await api.lease(run.id, 8)
    await api.reported(second, climbs(second, NEEDS))
    again = {n % 4: rungs(item)[0] for n, item in (await served(api, run, 8)).items()}
    assert again == ladders, "failures below the level that helps do not move it"
    third = await api.lease(run.id, 8)
    await api.reported(third, climbs(third, [12]))
    later = {n % 4: rungs(item)[0] for n, item in (await served(api, run, 8)).items()}
    assert later == {0: 10, 1: 10, 2: 10, 3: 10}, "what helped once does no more"
    await api.announced(run.id, 1)
    check_run(database_url, redis_server.url, run, boundaries=[_last(database_url, run)])
    check_laws(redis_server.url, run.id, num_tasks=8)


def _last(database_url: str, run: Run) -> int:
    ((last,),) = query(database_url, "SELECT max(apply_seq) FROM ledger WHERE run_id = %s", run.id)
    return int(str(last))


async def test_bare_statistics_are_those_of_the_bare_groups_alone(
    valkey_api: Api, database_url: str
) -> None:
    """The same failures with and without climbs: the same bits at level 0."""
    api = valkey_api
    columns = "ordinal, s, f, ema, z_easy, z_hard, abs_a, m, v, reward_mean, full_visits, n"
    where = "run_id = %s AND kind = 'none' ORDER BY ordinal"
    sql = f"SELECT {columns} FROM task_statistics WHERE {where}"
    found = []
    for needs in ([99], NEEDS):
        run = await climbing(api)
        batch = await api.lease(run.id, 8)
        await api.reported(batch, climbs(batch, needs))
        found.append(query(database_url, sql, run.id))
    assert len(found[0]) == 8
    assert found[0] == found[1]


async def test_the_ladder_goes_back_and_along_with_its_run(
    valkey_api: Api, database_url: str
) -> None:
    """Restore and fork know where the climb stood at the checkpoint."""
    api = valkey_api
    run = await climbing(api)
    one = Traveller(api, run, database_url)
    batch = await api.lease(run.id, 8)
    await api.reported(batch, climbs(batch, [6]))
    await one.announce()
    taken = await one.checkpoint()
    batch = await api.lease(run.id, 8)
    await api.reported(batch, climbs(batch, [12]))
    assert {rungs(item)[0] for item in (await served(api, run, 8)).values()} == {10}
    fork = await one.fork("fork", checkpoint_id=taken.id)
    assert {rungs(item)[0] for item in (await served(api, fork, 8)).values()} == {4}
    await one.restore(taken.id)
    assert {rungs(item)[0] for item in (await served(api, run, 8)).values()} == {4}
    answer = await api.post(f"/v1/runs/{run.id}/rebuild")
    assert answer.status_code == 200
    assert {rungs(item)[0] for item in (await served(api, run, 8)).values()} == {4}


@pytest.mark.parametrize("name", ["hints", "noise_docs"])
async def test_a_run_with_a_scaffold_is_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer, name: str
) -> None:
    api = valkey_api
    if name == "hints":
        run = await climbing(api)
    else:
        run = await create(api, documented(8), name)
    for version in (1, 2):
        batch = await api.lease(run.id, 5)
        report = climbs(batch, NEEDS) if name == "hints" else report_of(batch)
        await api.reported(batch, report)
        await api.announced(run.id, version)
    await api.lease(run.id, 3)
    report_ = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report_.verdict, report_.differences) == ("same", [])
    assert report_.ledger.digest == report_.ledger.stored_digest


async def test_noise_is_the_same_for_whoever_asks(pair: tuple[Api, Api]) -> None:
    """A repeated call, on the other replica too, shows the same documents, byte for byte."""
    run = await create(pair[0], documented(32), "noise_docs")
    answers = [await api.try_lease(run.id, 24, key="noise") for api in (pair[0], pair[1], pair[0])]
    assert len({answer.content for answer in answers}) == 1
    items = [PromptItem.model_validate(item) for item in answers[0].json()["items"]]
    noisy = [item for item in items if item.scaffold.level == 1]
    assert 4 <= len(noisy) <= 20, "about half of the groups"
    for item in noisy:
        assert item.scaffold.kind == "noise_docs"
        assert item.scaffold.messages is not None
        shown, own = item.scaffold.messages[0].content, item.task.messages[0].content
        number = item.task.ordinal
        mine = [text for text in shown.split(". ")[:4] if text.startswith(f"doc {number}/")]
        assert len(mine) == 2, "half of four"
        assert len(set(shown.split(". ")[:4])) == 4
        assert shown.split(". ")[4] == own.split(". ")[4], "the question stays"
    assert all(item.scaffold.messages is None for item in items if item.scaffold.level == 0)


async def test_another_entry_has_another_noise(valkey_api: Api) -> None:
    api = valkey_api
    run = await create(api, documented(3), "noise_docs", rho=1.0)
    seen = [(await served(api, run, 3))[0].scaffold.messages for _ in range(6)]
    assert len({str(messages) for messages in seen}) > 1


async def test_prefixes_grow_with_the_level(valkey_api: Api) -> None:
    api = valkey_api
    turns = [Message(role="assistant", content=str(n)) for n in range(5)]
    tasks = [aided(0, Aids(solution="x" * 101)), aided(1, Aids(solution=turns))]
    run = await create(api, tasks, "prefix", start_version=0)
    items = await served(api, run, 2)
    ladder = items[0].ladder
    assert ladder is not None
    assert [len(rung.text) for rung in ladder.rungs] == [25, 50, 76]
    assert ladder.num_rollouts == run.group_size
    ladder = items[1].ladder
    assert ladder is not None
    assert [len(rung.turns) for rung in ladder.rungs] == [2, 3, 4]


async def test_help_waits_for_its_version(valkey_api: Api) -> None:
    api = valkey_api
    run = await create(api, hinted(4), "hints", start_version=1)
    assert all(item.ladder is None for item in (await served(api, run, 4)).values())
    await api.announced(run.id, 1)
    assert all(item.ladder is not None for item in (await served(api, run, 4)).values())


async def test_tasks_without_aids_are_counted_when_a_run_is_created(valkey_api: Api) -> None:
    api = valkey_api
    tasks = [*hinted(3), *(task(number) for number in range(10, 15))]
    dataset = await api.create_dataset("half", tasks=tasks)
    bare = await api.create_dataset("bare", tasks=[task(0), task(1)])

    async def refused(dataset_id: str, **knobs: object) -> str:
        body = {"name": "r", "dataset_id": dataset_id, "curriculum": curriculum("hints", **knobs)}
        found = problem(await api.post("/v1/runs", body), 422, "payload_invalid")
        assert found.errors[0].pointer == "/curriculum/scaffold"
        return found.errors[0].detail

    assert await refused(dataset) == (
        "5 of 8 tasks have no aids.hints; import them with it, "
        "or set knob `missing` to 'bare' to serve those without help"
    )
    assert (await refused(bare)).startswith("2 of 2 tasks have no aids.hints")
    assert (await refused(bare, missing="bare")).startswith("2 of 2 tasks have no aids.hints")
    run = await api.create_run(
        dataset_id=dataset,
        mode="curriculum_only",
        curriculum=curriculum("hints", missing="bare", start_version=0),
    )
    items = await served(api, run, 8)
    assert sorted(n for n, item in items.items() if item.ladder is not None) == [0, 1, 2]
    wrong = {"name": "r", "dataset_id": dataset, "curriculum": curriculum("hints", missing="no")}
    found = problem(await api.post("/v1/runs", wrong), 422, "payload_invalid")
    assert found.errors[0].pointer == "/curriculum/scaffold/knobs/missing"


async def test_aids_stay_out_of_bodies_and_go_along_in_archives(
    valkey_api: Api,
    database_url: str,
    redis: RunningServer,
    servers: Servers,
    tmp_path: Path,
) -> None:
    """A prompt batch never carries aids; an imported run goes on where its climbs stood.

    The copy lives on a server of its own: the first replica goes on serving the run on Valkey.
    """
    api = valkey_api
    run = await climbing(api)
    batch = await api.lease(run.id, 8)
    assert all("k1" not in item.task.model_dump_json() for item in batch.items)
    await api.reported(batch, climbs(batch, [6]))
    rows = query(database_url, "SELECT convert_from(body, 'UTF8'), aids FROM tasks")
    assert all("aids" not in str(body) for body, _ in rows)
    assert all(isinstance(aids, bytes) and b"k1" in aids for _, aids in rows)
    await written(database_url, run.id, tmp_path / "run")
    with servers.database() as other_url:
        copied = await read(other_url, redis, tmp_path / "run", name="copy")
        async with sampler_app(other_url, redis.url) as other:
            await other.loaded(copied.run_id)
            items = await served(other, run.model_copy(update={"id": copied.run_id}), 8)
    assert {rungs(item)[0] for item in items.values()} == {4}
