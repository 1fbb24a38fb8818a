"""What `GRPOTrainer` cannot follow is refused before anything is trained."""

from __future__ import annotations

import pytest

from etude_client.adapters.trl_sampler import Shape, check_fit
from etude_proto.v1 import ResolvedPart, Run
from support.contract import example

SHAPE = Shape(num_tasks=4, group_size=8, num_repeats=1, num_rows=100)


def _run(*, group_size: int = 8, num_tasks: int = 8, budget: ResolvedPart | None = None) -> Run:
    run = Run.model_validate_json(example("Run"))
    resolved = run.resolved.model_copy(update={"budget": budget})
    return run.model_copy(
        update={"group_size": group_size, "num_tasks": num_tasks, "resolved": resolved}
    )


def test_a_run_that_fits() -> None:
    check_fit(_run(), SHAPE)


@pytest.mark.parametrize(
    ("num_repeats", "num_rows", "num_taken", "held"),
    [
        (1, 100, 2, 2),
        (4, 100, 5, 2),  # gradient accumulation over one generation
        (1, 18, 5, 4),  # over four of them: an epoch holds no more
        (8, 100, 5, 1),  # several steps a generation
        (1, 100, 6, 6),  # two workers, each with two batches
        (4, 3, 5, 1),
    ],
)
def test_what_the_loader_holds(num_repeats: int, num_rows: int, num_taken: int, held: int) -> None:
    shape = Shape(4, 8, num_repeats, num_rows, num_taken)
    assert shape.num_held == held
    check_fit(_run(num_tasks=4 * held), shape)
    if held > 1:
        words = f"holds up to {4 * held} prompts .*takes {num_taken} batches"
        with pytest.raises(ValueError, match=words):
            check_fit(_run(num_tasks=4 * held - 1), shape)


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
