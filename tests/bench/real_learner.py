"""Strategies on a real learner: tiny policy, real sampler, real reward, real GRPO, on one CPU core.

    .venv/bin/python tests/bench/real_learner.py --arms uniform,dapo,dscl --seeds 5 --out FILE

Every (arm, seed) cell spends the same number of rollouts; success is measured on held-out tasks
and costs nothing. Cells that FILE (JSON lines) already holds are not run again, so that a
comparison can be made in pieces, by several processes (`--only-seed`) too. Afterwards, or with
`--show`, a table and, with `--json`, one object as `etude simulate` prints it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_cell import Cell, CellPlan, CellRun, Point
from real_policies import Policies
from real_summary import Summary, counts_table, summarise, table
from real_tasks import TASK_SETS, held_out_tasks, make_policy

from etude_rollout.engines.transformers_engine import TransformersEngine
from support.sampler_app import sampler_app
from support.servers import Servers

ARMS = (
    *("uniform", "etude", "oracle_signal", "oracle_success", "dscl", "dapo", "learnability"),
    *("dscl_rds_only", "dscl_tdcl_only"),
)
HOME = Path(".etude/real-learner")


def read_cells(path: Path, plan: CellPlan) -> list[Cell]:
    """Cells of this plan in a file; those of another plan are left alone."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text("utf-8").splitlines():
        values = json.loads(line)
        if values["plan"] == asdict(plan):
            values["curve"] = [Point(**point) for point in values["curve"]]
            found.append(Cell(**values))
    return found


async def run_cells(
    jobs: Sequence[tuple[str, int]], plan: CellPlan, *, model_dir: Path, out: Path
) -> None:
    """Run cells one after another; each is appended to the file when it is done."""
    servers = Servers()
    engine = await TransformersEngine.open(model_dir, num_threads=1, max_rows=512)
    task_set = TASK_SETS[plan.task_set]
    policies = Policies(model_dir, engine, max_new_tokens=task_set.max_new_tokens)
    held_out = held_out_tasks(plan.num_held_out, task_set)
    try:
        with servers.database() as database_url:
            async with sampler_app(database_url, servers.valkey.url, log_level="warning") as api:
                for arm, seed in jobs:
                    cell = await CellRun(api, policies, plan, held_out=held_out).run(arm, seed)
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(cell)) + "\n")
                    print(_line(cell), file=sys.stderr, flush=True)
    finally:
        await policies.close()
        servers.close()


def _line(cell: Cell) -> str:
    first, last = cell.curve[0], cell.curve[-1]
    return (
        f"{cell.arm} seed {cell.seed}: success {first.success:.3f} -> {last.success:.3f} "
        f"(greedy {first.greedy} -> {last.greedy}), {cell.num_versions} versions, "
        f"{cell.seconds:.0f} s"
    )


def document(summaries: Sequence[Summary], plan: CellPlan) -> dict[str, object]:
    """What `--json` prints."""
    return {"plan": asdict(plan), "results": [one.document() for one in summaries]}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", default=",".join(ARMS), help="presets, with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only-seed", type=int, help="run this one only")
    parser.add_argument("--tasks", default=CellPlan().task_set, choices=sorted(TASK_SETS))
    parser.add_argument("--num-tasks", type=int, default=CellPlan().num_tasks)
    parser.add_argument("--num-held-out", type=int, default=CellPlan().num_held_out)
    parser.add_argument("--rollouts", type=int, default=CellPlan().rollouts)
    parser.add_argument("--batch-groups", type=int, default=CellPlan().batch_groups)
    parser.add_argument("--lr", type=float, default=CellPlan().lr)
    parser.add_argument("--target", type=float, default=0.55, help="sampled held-out success")
    parser.add_argument("--out", type=Path, default=HOME / "cells.jsonl")
    parser.add_argument("--model", type=Path, help="default: made for the task set")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, then show."""
    given = options()
    torch.set_num_threads(1)
    plan = CellPlan(
        task_set=given.tasks,
        rollouts=given.rollouts,
        num_tasks=given.num_tasks,
        num_held_out=given.num_held_out,
        batch_groups=given.batch_groups,
        lr=given.lr,
    )
    arms = given.arms.split(",")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.only_seed is not None:
        seeds = range(given.only_seed, given.only_seed + 1)
    if not given.show:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        done = {(cell.arm, cell.seed) for cell in read_cells(given.out, plan)}
        # Seed by seed: whenever it is stopped, the arms can be compared on the seeds so far.
        jobs = [(arm, seed) for seed in seeds for arm in arms if (arm, seed) not in done]
        if jobs:
            model_dir = make_policy(
                given.model or HOME / f"policy-{given.tasks}", TASK_SETS[given.tasks]
            )
            asyncio.run(run_cells(jobs, plan, model_dir=model_dir, out=given.out))
    cells = read_cells(given.out, plan)
    summaries = summarise(cells, target=given.target)
    if given.json:
        print(json.dumps(document(summaries, plan)))
    else:
        print(table(summaries))
        print(counts_table(cells))


if __name__ == "__main__":
    main()
