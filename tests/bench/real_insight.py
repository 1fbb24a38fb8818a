"""What `etude` knows of the training tasks on the real learner, beside what they truly show.

    .venv/bin/python tests/bench/real_insight.py --seeds 0,1

At every measurement of a cell each training task is rolled out eight times more, which nothing is
told of. Of these answers: how many tasks are informative at all, the Brier score of `etude`'s
forecast beside simpler ones, rank correlations, and where its weight goes. About 4 minutes a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_cell import CellPlan, CellRun
from real_learner import HOME
from real_oracle import NUM_ROLLOUTS, Gauge
from real_policies import Policies, answers
from real_tasks import TASK_SETS, grade_of, held_out_tasks, make_policy
from scipy.stats import spearmanr

from etude_proto.v1 import Run, TaskCreate, TaskPage, TaskView
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_sampler.statistics import Floats
from support.sampler_app import parse, sampler_app
from support.servers import Servers

INFORMATIVE = 1e-4
"""Deviation of the rule reward above which a group teaches something."""
_FORECAST = re.compile(r"success ([0-9.]+) predicted")
GRADES = ("known", "mixed", "hard", "mislabelled")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What the run says of N tasks."""

    forecast_N: Floats
    """Predicted success."""
    weight_N: Floats
    counts_N2: Floats
    """Decayed successes and failures; 0 where unseen."""


@dataclass(slots=True)
class Insights:
    """One line a measurement."""

    lines: list[str] = field(default_factory=list)

    def add(self, spent: int, tasks: Sequence[TaskCreate], shown: Floats, known: Known) -> None:
        """Compare.

        Args:
            spent: rollouts so far.
            tasks: N of them.
            shown: [N, 2] share of right answers and deviation of the reward.
            known: of the same tasks.
        """
        chance_N, signal_N = shown[:, 0], shown[:, 1]
        seen_N = known.counts_N2.sum(axis=1) > 0
        counts_N2 = known.counts_N2
        mean = float(chance_N.mean())
        flat_N = (counts_N2[:, 0] + 1.0) / (counts_N2.sum(axis=1) + 2.0)
        scores = [
            _brier(chance_N, one_N)
            for one_N in (np.full_like(chance_N, mean), flat_N, known.forecast_N, chance_N)
        ]
        grade_N = np.array([grade_of(task) for task in tasks])
        share_N = known.weight_N / known.weight_N.sum()
        self.lines.append(
            f"| {spent:,} | {seen_N.mean():.2f} | {(signal_N > INFORMATIVE).mean():.2f} "
            f"| {' | '.join(f'{one:.3f}' for one in scores)} "
            f"| {_rank(known.forecast_N, chance_N):.2f} | {_rank(known.weight_N, signal_N):.2f} "
            f"| {float(share_N @ (signal_N > INFORMATIVE)):.2f} "
            f"| {' / '.join(f'{share_N[grade_N == one].sum():.2f}' for one in GRADES)} |"
        )


def _brier(chance_N: Floats, forecast_N: Floats) -> float:
    """Mean over answers of `(right - forecast)^2`."""
    return float(np.mean(chance_N * (1.0 - forecast_N) ** 2 + (1.0 - chance_N) * forecast_N**2))


def _rank(one_N: Floats, other_N: Floats) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(one_N, other_N).statistic)


class WatchedRun(CellRun):
    """A cell that is looked at."""

    insights: Insights

    async def _look(self, run: Run, tasks: Sequence[TaskCreate], gauge: Gauge | None) -> None:
        found = await answers(self.policies, tasks, num=NUM_ROLLOUTS)
        shown = [
            (np.mean([one.success for one in row]), np.std([one.total for one in row]))
            for row in found
        ]
        self.insights.add(self.spent, tasks, np.array(shown), await self._known(run, len(tasks)))

    async def _known(self, run: Run, num: int) -> Known:
        response = await self.api.get(f"/v1/runs/{run.id}/tasks", limit=num)
        page = parse(response, TaskPage)
        assert len(page.items) == num
        known = Known(np.zeros(num), np.zeros(num), np.zeros((num, 2)))
        for item in page.items:
            view: TaskView = await self.api.task(run.id, item.id)
            at = int(str(view.task.metadata["number"]))
            told = _FORECAST.search(view.weights[1].explanation)
            assert told is not None, view.weights
            known.forecast_N[at], known.weight_N[at] = float(told[1]), view.weights[1].weight
            if item.statistics is not None:
                counts = item.statistics
                known.counts_N2[at] = counts.num_successes, counts.num_failures
        return known


async def watch(seeds: Sequence[int], plan: CellPlan, model_dir: Path) -> None:
    """Print a table a seed."""
    servers = Servers()
    task_set = TASK_SETS[plan.task_set]
    engine = await TransformersEngine.open(model_dir, num_threads=1, max_rows=512)
    policies = Policies(model_dir, engine, max_new_tokens=task_set.max_new_tokens)
    held_out = held_out_tasks(plan.num_held_out, task_set)
    try:
        with servers.database() as database_url:
            async with sampler_app(database_url, servers.valkey.url, log_level="warning") as api:
                for seed in seeds:
                    run = WatchedRun(api, policies, plan, held_out=held_out)
                    run.insights = Insights()
                    await run.run("etude", seed)
                    print(f"\nseed {seed}\n")
                    print("\n".join([_HEAD, *run.insights.lines]), flush=True)
    finally:
        await policies.close()
        servers.close()


_HEAD = (
    "| rollouts | seen | informative | Brier: mean of all | counts | etude | truth "
    "| rank: forecast | rank: weight | informative, drawn by weight | weight on "
    + " / ".join(GRADES)
    + " |\n|"
    + "---|" * 11
)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--tasks", default=CellPlan().task_set, choices=sorted(TASK_SETS))
    parser.add_argument("--rollouts", type=int, default=CellPlan().rollouts)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = CellPlan(task_set=given.tasks, rollouts=given.rollouts)
    model_dir = make_policy(HOME / f"policy-{given.tasks}", TASK_SETS[given.tasks])
    asyncio.run(watch([int(one) for one in given.seeds.split(",")], plan, model_dir))


if __name__ == "__main__":
    main()
