"""Hard sampling over HTTP: a task fails, is guided, comes back; probes, parking, rebuild, replay."""

from __future__ import annotations

from collections.abc import Mapping

from etude_proto.v1 import (
    GateVerdict,
    GroupReport,
    Outcome,
    PromptBatch,
    PromptItem,
    Report,
    Run,
)
from etude_sampler.embedded import RunningServer
from support.replaying import replayed
from support.sampler_app import Api, query
from support.workload import group, outcome

PRESET = {"preset": "uniform", "control_share": 0.2, "hard": {"name": "multi_round"}}
ANSWER = "<think> It is {}. </think>\n<response> yes </response>"


def rollouts(item: PromptItem, won: int) -> list[Outcome]:
    """So many right ones among the rollouts asked for, the first of them with its text."""
    names = item.task.subtasks or ["format"]
    made = [outcome({name: float(i < won) for name in names}) for i in range(item.num_rollouts)]
    if won:
        made[0] = made[0].model_copy(update={"completion": ANSWER.format(item.task.ordinal)})
    return made


class Player:
    """Plays every task by a rule: the share of right rollouts, bare or guided."""

    def __init__(self, api: Api, run: Run, *, bare: Mapping[int, float], guided: float) -> None:
        self.api, self.run = api, run
        self.bare, self.guided = dict(bare), guided
        self.version = 0
        self.served: list[PromptItem] = []

    def report(self, batch: PromptBatch) -> Report:
        """What became of a batch."""
        assert batch.lease is not None
        groups: list[GroupReport] = []
        for item in batch.items:
            share = self.bare.get(item.task.ordinal, 1.0)
            kind, level = item.scaffold.kind, item.scaffold.level
            if level:
                share = self.guided
            made = rollouts(item, round(share * item.num_rollouts))
            groups.append(group(item.task.id, made, scaffold_kind=kind, scaffold_level=level))
        return Report(fence=batch.lease.fence, groups=groups)

    async def step(self, num_tasks: int = 8) -> list[PromptItem]:
        """A batch and its report."""
        batch = await self.api.lease(self.run.id, num_tasks)
        assert batch.wants_completions
        await self.api.reported(batch, self.report(batch))
        self.served += batch.items
        return batch.items

    async def round(self, num_tasks: int) -> None:
        """As many groups as the run has tasks, and a version."""
        done = 0
        while done < num_tasks:
            done += len(await self.step(min(8, num_tasks - done)))
        self.version += 1
        await self.api.announced(self.run.id, self.version)


async def started(api: Api, *, bare: Mapping[int, float], guided: float, n: int = 24) -> Player:
    """A run of groups of 10."""
    run = await api.create_run(
        num_tasks=n, mode="curriculum_only", curriculum=PRESET, group_size=10, seed=3
    )
    return Player(api, run, bare=bare, guided=guided)


async def states(api: Api, run: Run) -> dict[str, int]:
    """Tasks by lane, and those that are parked."""
    view = (await api.get(f"/v1/runs/{run.id}/curriculum")).json()
    lanes = {lane["name"]: lane["num_waiting"] for lane in view["lanes"]}
    counts = view["counts"]
    parts = counts["num_waiting"] + counts["num_leased"] + counts["num_parked"]
    assert parts == counts["num_tasks"]
    return {**lanes, "parked": counts["num_parked"]}


async def test_a_task_that_fails_is_guided_and_comes_back(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    player = await started(valkey_api, bare={5: 0.0}, guided=0.6)
    await player.round(24)
    found = await states(valkey_api, player.run)
    assert (found["hard"], found["parked"]) == (1, 0)
    seen = await valkey_api.task(
        player.run.id, next(item.task.id for item in player.served if item.task.ordinal == 5)
    )
    assert {term.lane: term.in_lane for term in seen.weights}["uniform"]
    player.served.clear()
    for _ in range(4):
        await player.round(24)
    guided = [item for item in player.served if item.lane == "hard"]
    assert {item.task.ordinal for item in guided} == {5}
    assert [item.scaffold.level for item in guided[:2]] == [2, 1]
    for item in guided[:2]:
        assert item.scaffold.kind == "few_shot"
        assert len(item.demonstrations) >= item.scaffold.level
        assert item.task.id not in {one.task_id for one in item.demonstrations}
        assert all(one.answer.startswith("<think>") for one in item.demonstrations)
        assert all(one.origin == "policy" for one in item.demonstrations)
    bare = [item for item in player.served if item.lane not in ("hard", "probe")]
    assert all(item.scaffold.level == 0 and not item.demonstrations for item in bare)
    report = await replayed(database_url, player.run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"
