"""Why preset `toolexpander` is no arm on the real learner: what a system text does to the policy.

    .venv/bin/python tests/bench/real_prompts.py "Make up an example first."

Success by grade of the policy of `real_learner.py` before any training, bare and with each text
before the request. Self-exemplifying thinking asks for examples in such a text. About a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_cell import CellPlan
from real_learner import HOME
from real_policies import Policies, answers
from real_tasks import TASK_SETS, Grade, grade_of, held_out_tasks, make_policy

from etude_proto.v1 import Message, TaskCreate
from etude_rollout.engines.transformers_engine import TransformersEngine

NUM_SAMPLES = 4


def told(task: TaskCreate, text: str) -> TaskCreate:
    """The task with a system text; none for the empty text."""
    if not text:
        return task
    system = Message(role="system", content=text)
    return task.model_copy(update={"messages": [system, *task.messages]})


async def compare(texts: Sequence[str], plan: CellPlan, model_dir: Path) -> None:
    """Print a line a text."""
    engine = await TransformersEngine.open(model_dir, num_threads=1, max_rows=512)
    task_set = TASK_SETS[plan.task_set]
    policies = Policies(model_dir, engine, max_new_tokens=task_set.max_new_tokens)
    tasks = held_out_tasks(plan.num_held_out, task_set)
    print(f"| system text | {' | '.join(Grade)} |\n|---|---|---|---|")
    try:
        for text in ("", *texts):
            found = await answers(policies, [told(task, text) for task in tasks], num=NUM_SAMPLES)
            grades: dict[str, list[float]] = {one.value: [] for one in Grade}
            for task, scores in zip(tasks, found, strict=True):
                grades[grade_of(task)] += [float(one.success) for one in scores]
            means = " | ".join(f"{fmean(shares):.2f}" for shares in grades.values())
            print(f"| {text or '-'} | {means} |", flush=True)
    finally:
        await policies.close()


def main() -> None:
    """Compare the texts given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--tasks", default=CellPlan().task_set, choices=sorted(TASK_SETS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    model_dir = make_policy(HOME / f"policy-{given.tasks}", TASK_SETS[given.tasks])
    asyncio.run(compare(given.texts, CellPlan(task_set=given.tasks), model_dir))


if __name__ == "__main__":
    main()
