"""A run with hard sampling, played by a rule: who is right, bare or guided. For tests over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from etude_proto.v1 import GroupReport, Outcome, PromptBatch, PromptItem, Report, Run

from .sampler_app import Api
from .workload import group, outcome

PRESET = {"preset": "toolexpander", "control_share": 0.2}
ANSWER = "<think> It is {}. </think>\n<response> yes </response>"


def rollouts(item: PromptItem, won: int, *, version: int) -> list[Outcome]:
    """So many right ones among the rollouts asked for, the first of them with its text.

    The thought gets shorter from version to version: new texts are preferred to old ones.
    """
    names = item.task.subtasks or ["format"]
    made = [outcome({name: float(i < won) for name in names}) for i in range(item.num_rollouts)]
    if won:
        thought = f"{'so ' * (20 - version)}{item.task.ordinal}"
        made[0] = made[0].model_copy(update={"completion": ANSWER.format(thought)})
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
            won = round(share * item.num_rollouts)
            made = rollouts(item, won, version=batch.policy_version)
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
