"""Preset `etude` over HTTP: unseen tasks are predicted, weights are explained, replay confirms."""

from __future__ import annotations

import uuid

import pytest

from etude_proto.v1 import PromptBatch, Report, Run, TaskView
from etude_sampler.embedded import RunningServer
from support.replaying import replayed
from support.sampler_app import Api
from support.time_travel import Traveller
from support.workload import group, outcome, task

NUM_TASKS = 40


async def _run(api: Api) -> tuple[Run, list[str]]:
    """A run of one lane over tasks of two sources, and the ids of its tasks."""
    tasks = [
        task(number, subtasks=["answer"], source=("easy", "hard")[number % 2])
        for number in range(NUM_TASKS)
    ]
    dataset_id = await api.create_dataset(uuid.uuid4().hex, tasks=tasks)
    run = await api.create_run(
        dataset_id=dataset_id, mode="curriculum_only", curriculum={"preset": "etude"}
    )
    found = await api.get(f"/v1/runs/{run.id}/tasks", limit=NUM_TASKS)
    return run, [one["id"] for one in found.json()["items"]]


def _by_source(batch: PromptBatch, *, version: int) -> Report:
    """Easy tasks are right in 7 of 8 rollouts, hard ones in 1."""
    assert batch.lease is not None
    groups = []
    for item in batch.items:
        right = 7 if item.task.source == "easy" else 1
        rollouts = [outcome({"answer": float(i < right)}, version=version) for i in range(8)]
        groups.append(group(item.task.id, rollouts))
    return Report(fence=batch.lease.fence, groups=groups)


async def _tasks(api: Api, run: Run, ids: list[str]) -> list[TaskView]:
    return [await api.task(run.id, one) for one in ids]


def _weight(view: TaskView) -> float:
    """Of the task in lane `answer`, which its explanation ends with."""
    (term,) = [term for term in view.weights if term.lane == "answer"]
    said = float(term.explanation.rpartition("=")[2])
    assert said == pytest.approx(term.weight, abs=1e-4)
    return term.weight


def _predicted(view: TaskView) -> float:
    """Success in the explanation."""
    told = view.weights[1].explanation
    return float(told.partition("success ")[2].split()[0])


async def test_unseen_tasks_are_predicted_by_what_others_showed(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run, ids = await _run(api)
    assert run.resolved.sources == ["easy", "hard"]
    assert len({_weight(view) for view in await _tasks(api, run, ids)}) == 1
    for version in range(1, 4):
        batch = await api.lease(run.id, 6)
        await api.reported(batch, _by_source(batch, version=version - 1))
        await api.announced(run.id, version)
    views = await _tasks(api, run, ids)
    unseen = [view for view in views if "from 0.0 rollouts" in view.weights[1].explanation]
    assert 20 <= len(unseen) <= NUM_TASKS - 6
    of = {
        source: {_predicted(view) for view in unseen if view.task.source == source}
        for source in ("easy", "hard")
    }
    assert min(of["easy"]) > 0.5
    assert max(of["hard"]) < 0.5
    # Ages 1 to 4 are all refreshed, unseen tasks too, so that a rebuild changes no weight.
    before = [_weight(view) for view in views]
    assert (await api.post(f"/v1/runs/{run.id}/rebuild")).status_code == 200
    await api.loaded(run.id)
    assert [_weight(view) for view in await _tasks(api, run, ids)] == before
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.verdict) == ([], [], "same")


async def test_restored_and_forked_the_ability_is_that_of_then(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run = await api.create_run(
        num_tasks=24, seed=3, mode="curriculum_only", curriculum={"preset": "etude"}
    )
    one = Traveller(api, run, database_url)
    for skill in (0.4, 0.5):
        await one.report(6, skill=skill)
        await one.announce()
    taken = await one.checkpoint(label="then")
    found = await api.get(f"/v1/runs/{run.id}/tasks", limit=24)
    ids = [task["id"] for task in found.json()["items"]]
    then = {view.task.id: view.weights for view in await _tasks(api, run, ids)}
    await one.report(6, skill=0.9)
    await one.announce()
    await replayed(database_url, run.id, redis_url=valkey.url)
    await one.restore(taken.id)
    fork = await one.fork("other")
    for traveller in (one, Traveller(api, fork, database_url, list(one.boundaries))):
        await api.loaded(traveller.run.id)
        now = await _tasks(api, traveller.run, ids)
        assert {view.task.id: view.weights for view in now} == then
        await traveller.report(6, skill=0.3)
        await traveller.announce()
        report = await replayed(database_url, traveller.run.id, redis_url=valkey.url)
        assert (report.differences, report.gaps, report.verdict) == ([], [], "same")
