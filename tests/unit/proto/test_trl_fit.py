"""What `GRPOTrainer` cannot follow is refused before anything is trained."""

from __future__ import annotations

import pytest

from etude_client.adapters.trl_sampler import Shape, check_fit
from etude_proto.v1 import ResolvedPart, Run
from support.contract import example

SHAPE = Shape(num_tasks=4, group_size=8, num_repeats=1)


def _run(*, group_size: int = 8, num_tasks: int = 8, budget: ResolvedPart | None = None) -> Run:
    run = Run.model_validate_json(example("Run"))
    resolved = run.resolved.model_copy(update={"budget": budget})
    return run.model_copy(
        update={"group_size": group_size, "num_tasks": num_tasks, "resolved": resolved}
    )


def test_a_run_that_fits() -> None:
    check_fit(_run(), SHAPE)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (_run(group_size=4), "groups of 4, the trainer of 8"),
        (_run(num_tasks=7), "holds up to 8 prompts at a time, and the run leases 7"),
        (_run(budget=ResolvedPart(name="knapsack", knobs={})), "budget 'knapsack'"),
    ],
)
def test_a_run_that_does_not(run: Run, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_fit(run, SHAPE)
