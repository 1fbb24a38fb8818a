"""Curricula that remember more: notes, paces, lanes of sources and levels, features; replayed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from etude_proto.v1 import Run, TaskCreate, TaskPage
from etude_sampler.embedded import RunningServer
from support.archives import digest, read, written
from support.replaying import change, play, replayed
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import read_hot
from support.servers import Servers
from support.time_travel import Traveller, state_of
from support.waiting import wait_until
from support.workload import report_of, task

SOURCES = ("books", "my set", "web")
WITH_NOTES = {"arcus": 2, "late_learned": 1}
"""Presets and how many numbers they note of a task."""


def _tasks(num: int, *, given: Sequence[float] | None = None) -> list[TaskCreate]:
    """Tasks of three sources, each with an offline pass rate."""
    made = []
    for number in range(num):
        metadata: dict[str, object] = {"pass_rate": (number % 9) / 8}
        if given is not None:
            metadata["features"] = [number / num, *given]
        one = task(number, source=SOURCES[number % 3])
        made.append(one.model_copy(update={"metadata": metadata}))
    return made


async def _run(api: Api, name: str, *, num_tasks: int = 36, **spec: object) -> Run:
    """A curriculum-only run of a preset."""
    if "dataset_id" not in spec:
        spec["dataset_id"] = await api.create_dataset(f"for {name}", tasks=_tasks(num_tasks))
    spec.setdefault("curriculum", {"preset": name})
    body: dict[str, object] = {"mode": "curriculum_only", "name": name, "seed": 5, **spec}
    return await api.create_run(num_tasks=0, **body)


async def _settled(redis_url: str, run_id: str) -> None:
    async def none_leased() -> bool:
        return not read_hot(redis_url, run_id).leased()

    await wait_until(none_leased, what="the last lease ends")


def _noted(database_url: str, run_id: str) -> list[tuple[object, bytes]]:
    """Notes of all tasks, by ordinal."""
    statement = "SELECT ordinal, x FROM task_statistics WHERE run_id = %s ORDER BY 1"
    found = []
    for ordinal, noted in query(database_url, statement, run_id):
        assert isinstance(noted, bytes)
        found.append((ordinal, noted))
    return found


@pytest.mark.parametrize(
    "preset", ["arcus", "greso", "late_learned", "vcrl", "dump", "sec", "tscl", "ladder", "etude"]
)
async def test_a_run_follows_a_preset_and_is_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer, preset: str
) -> None:
    api = valkey_api
    run = await _run(api, preset)
    version = await play([api], run, seed=8, num_steps=30)
    assert version >= 2
    await _settled(valkey.url, run.id)
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"
    view = await api.view(run.id)
    assert sum(lane.share for lane in view.lanes) == pytest.approx(1.0)
    lanes = {"ladder": [f"level_{k}" for k in range(9)]}
    if preset in ("dump", "sec", "tscl"):
        lanes[preset] = sorted(SOURCES)
    if preset in lanes:
        assert [lane.name for lane in view.lanes] == ["uniform", *lanes[preset]]
        assert sum(subtask.num_tasks for subtask in view.subtasks) == 36
    batch = await api.lease(run.id, 3)
    weighed = await api.task(run.id, batch.items[0].task.id)
    assert all(term.explanation for term in weighed.weights)
    if preset in lanes:
        assert batch.component_weights == {}, "sources and levels are no reward components"
        assert len(weighed.weights) == 2
    width = "SELECT DISTINCT octet_length(x) FROM task_statistics WHERE run_id = %s"
    if preset in WITH_NOTES:
        assert query(database_url, width, run.id) == [(8 * WITH_NOTES[preset],)]


async def test_two_replicas_weigh_by_the_same_pace(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """A replica that has not heard of a version yet reads it before it weighs."""
    run = await _run(pair[0], "greso")
    here, there = await pair[0].lease(run.id, 4), await pair[1].lease(run.id, 4)
    await pair[0].reported(here, report_of(here, skill=1.0))
    await pair[0].announced(run.id, 1)  # all right: the base of such tasks falls from .5 to .49
    await pair[1].reported(there, report_of(there, skill=1.0, version=0))
    late = await pair[1].task(run.id, there.items[0].task.id)
    assert {term.weight for term in late.weights} == {1.0, 0.49}
    await play(pair, run, seed=2, num_steps=40, version=1)
    await _settled(redis_server.url, run.id)
    report = await replayed(database_url, run.id, redis_url=redis_server.url)
    assert (report.verdict, report.differences, report.gaps) == ("same", [], [])


async def test_notes_and_pace_travel(
    valkey_api: Api,
    database_url: str,
    valkey: RunningServer,
    servers: Servers,
    tmp_path: Path,
) -> None:
    """Checkpoint, restore, fork to the same and to other parts, rebuild, archive: every bit."""
    api = valkey_api
    inner = {"weigher": "arcus", "knobs": {"drift": 0.01}}
    curriculum = {"preset": "late_learned", "weigher": {"name": "late_learned", "knobs": inner}}
    run = await _run(api, "origin", curriculum=curriculum)
    one = Traveller(api, run, database_url)
    for _ in range(3):
        await one.report(6, skill=0.8)
        await one.announce()
    checkpoint = await one.checkpoint()
    before = state_of(database_url, run.id)
    await one.report(6, skill=0.2)
    await one.announce()
    assert state_of(database_url, run.id) != before
    await one.restore(checkpoint.id)
    assert state_of(database_url, run.id) == before, "notes and pace with the rest"
    await one.report(6, skill=0.4)
    same = await one.fork("same")
    assert _noted(database_url, same.id) == _noted(database_url, run.id)
    plain = await one.fork("plain", curriculum={"preset": "greso"})
    assert {noted for _, noted in _noted(database_url, plain.id)} == {b""}
    other = await one.fork("other", curriculum={"preset": "arcus"})
    assert _noted(database_url, other.id) == [
        (ordinal, noted[:16]) for ordinal, noted in _noted(database_url, run.id)
    ], "the belief comes along, what was learned does not"
    forks = [
        Traveller(api, fork, database_url, list(one.boundaries)) for fork in (same, plain, other)
    ]
    for traveller in (one, *forks):
        await traveller.report(6)
        await traveller.announce()
        mine = _noted(database_url, traveller.run.id)
        assert (await api.post(f"/v1/runs/{traveller.run.id}/rebuild")).status_code == 200
        assert _noted(database_url, traveller.run.id) == mine
        await traveller.report(6)
        report = await replayed(database_url, traveller.run.id, redis_url=valkey.url)
        assert (report.verdict, report.differences, report.gaps) == ("same", [], [])
    manifest = await written(database_url, run.id, tmp_path / "run.tar")
    with servers.database() as elsewhere:
        copy = await read(elsewhere, valkey, tmp_path / "run.tar", name="copy")
        assert await digest(elsewhere, copy.run_id) == manifest.statistics_digest
        assert _noted(elsewhere, copy.run_id) == _noted(database_url, run.id)
        async with sampler_app(elsewhere, valkey.url) as there:
            await there.loaded(copy.run_id)
            batch = await there.lease(copy.run_id, 4)
            await there.reported(batch, report_of(batch))
    changed = change(database_url, "UPDATE task_statistics SET x = '' WHERE run_id = %s", run.id)
    assert changed > 0
    assert await digest(database_url, run.id) != manifest.statistics_digest


async def test_features_are_given_computed_and_read(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A user's features are read if all tasks have them; those of old imports are computed."""
    api = valkey_api
    whole = await api.create_dataset("given", tasks=_tasks(60, given=[0.5]))
    run = await _run(api, "etude", dataset_id=whole)
    assert run.resolved.features[-3:] == ["source", "given_0", "given_1"]
    assert run.resolved.sources == list(SOURCES)
    some = await api.create_dataset("some", tasks=_tasks(24))
    assert change(database_url, "UPDATE tasks SET features = NULL WHERE dataset_id = %s", some)
    old = await _run(api, "etude", dataset_id=some)
    assert old.resolved.features[-1] == "source"
    for one in (run, old):
        for version in (1, 2):
            batch = await api.lease(one.id, 8)
            await api.reported(batch, report_of(batch))
            await api.announced(one.id, version)
        await play([api], one, seed=4, num_steps=8, version=2)
        await _settled(valkey.url, one.id)
        report = await replayed(database_url, one.id, redis_url=valkey.url)
        assert (report.verdict, report.differences, report.gaps) == ("same", [], [])
    assert (await api.post(f"/v1/runs/{run.id}/rebuild")).status_code == 200
    assert len(await _unseen_weights(api, run.id)) > 1, "tasks that differ by features alone"


async def _unseen_weights(api: Api, run_id: str) -> set[float]:
    """Weights in lane `format` of tasks never seen that exercise nothing else."""
    page = parse(await api.get(f"/v1/runs/{run_id}/tasks?order=unseen&limit=100"), TaskPage)
    weights = set()
    for item in page.items:
        if item.statistics is None and item.subtasks == ["format"]:
            terms = (await api.task(run_id, item.id)).weights
            weights |= {term.weight for term in terms if term.lane == "format"}
    return weights


async def test_what_the_tasks_do_not_have_is_refused_when_the_run_is_created(
    valkey_api: Api,
) -> None:
    api = valkey_api
    plain = await api.create_dataset("plain", tasks=[task(number) for number in range(6)])
    odd = [task(7).model_copy(update={"metadata": {"pass_rate": 1.5}}), *_tasks(3)]
    mixed = await api.create_dataset("mixed", tasks=odd)
    for dataset, preset, pointer, words in (
        (plain, "sec", "/curriculum/lanes_by", "it needs two"),
        (plain, "ladder", "/curriculum/lanes_by", "6 of 6 tasks"),
        (mixed, "ladder", "/curriculum/lanes_by", "1 of 4 tasks"),
    ):
        body = {"name": "x", "dataset_id": dataset, "curriculum": {"preset": preset}}
        refused = problem(await api.post("/v1/runs", body), 422, "payload_invalid")
        assert refused.errors[0].pointer == pointer
        assert words in refused.errors[0].detail
