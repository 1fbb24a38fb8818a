"""What a trainer of fixed groups cannot follow is refused before anything is trained."""

from __future__ import annotations

import pytest

from etude_client.adapters.sampler import check_run, scalars
from etude_proto.v1 import ResolvedPart, Run
from support.contract import example


def test_a_run_that_does_not_fit() -> None:
    run = Run.model_validate_json(example("Run"))
    resolved = run.resolved.model_copy(update={"budget": None})
    fits = run.model_copy(update={"group_size": 8, "num_tasks": 8, "resolved": resolved})
    check_run(fits, group_size=8, num_held=8)
    with pytest.raises(ValueError, match="groups of 8, the trainer of 4"):
        check_run(fits, group_size=4, num_held=8)
    with pytest.raises(ValueError, match="holds up to 9 prompts at a time, and the run leases 8"):
        check_run(fits, group_size=8, num_held=9)
    leases = fits.limits.leases_per_worker
    check_run(fits, group_size=8, num_held=8, num_leases=leases)
    with pytest.raises(ValueError, match=f"{leases + 1} draws at a time.*{leases} leases at most"):
        check_run(fits, group_size=8, num_held=8, num_leases=leases + 1)
    budget = resolved.model_copy(update={"budget": ResolvedPart(name="knapsack", knobs={})})
    with pytest.raises(ValueError, match="budget 'knapsack'"):
        check_run(fits.model_copy(update={"resolved": budget}), group_size=8, num_held=8)


def test_metrics_are_finite_numbers() -> None:
    metrics = {"loss": 0.5, "nan": float("nan"), "name": "x", "count": 3, "list": [1.0]}
    assert scalars(metrics) == {"loss": 0.5, "count": 3.0}
    assert len(scalars({str(number): 1.0 for number in range(99)})) == 64
    assert scalars(None) == {}
