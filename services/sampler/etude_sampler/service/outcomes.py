"""Outcomes between the wire's objects, numpy arrays and the ledger's compact JSON: pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from etude_proto.v1 import Attempt, Outcome
from etude_sampler.statistics import Floats, OutcomeArrays


def outcome_arrays(attempts: Sequence[Attempt], subtasks: Sequence[str]) -> OutcomeArrays:
    """Attempts as arrays, padded to the largest group."""
    largest = max(len(attempt.outcomes) for attempt in attempts)
    num = len(attempts)
    q_NGK = np.full((num, largest, len(subtasks)), np.nan)
    reward_NG = np.full((num, largest), np.nan)
    success_NG = np.full((num, largest), np.nan)
    valid_NG = np.zeros((num, largest), dtype=bool)
    nan = float("nan")
    for i, attempt in enumerate(attempts):
        outcomes, size = attempt.outcomes, len(attempt.outcomes)
        q_NGK[i, :size] = [[o.components.get(name, nan) for name in subtasks] for o in outcomes]
        reward_NG[i, :size] = [o.reward for o in outcomes]
        success_NG[i, :size] = [o.success for o in outcomes]
        valid_NG[i, :size] = [o.finish_reason.is_valid for o in outcomes]
    return OutcomeArrays(q_NGK, reward_NG, success_NG, valid_NG)


def oldest_version(outcomes: Sequence[Outcome], *, otherwise: int) -> int:
    """Oldest policy version among valid outcomes."""
    return min(
        (o.min_policy_version for o in outcomes if o.finish_reason.is_valid), default=otherwise
    )


def compact_outcomes(outcomes: Sequence[Outcome]) -> str:
    """A group's outcomes as JSON arrays, one value a rollout."""
    names = sorted({name for outcome in outcomes for name in outcome.components})
    columns = {
        "reward": [o.reward for o in outcomes],
        "shaping": [o.shaping for o in outcomes],
        "success": [o.success for o in outcomes],
        "components": {name: [o.components.get(name) for o in outcomes] for name in names},
        "finish_reason": [o.finish_reason for o in outcomes],
        "num_turns": [o.num_turns for o in outcomes],
        "num_tokens": [o.num_tokens for o in outcomes],
        "min_policy_version": [o.min_policy_version for o in outcomes],
        "max_policy_version": [o.max_policy_version for o in outcomes],
    }
    return orjson.dumps(columns).decode()


def pack_rows(values: Floats) -> list[bytes]:
    """Each row of an array [N, K] as little-endian float64."""
    width, whole = values.shape[1] * 8, np.ascontiguousarray(values, dtype="<f8").tobytes()
    return [whole[i * width : (i + 1) * width] for i in range(len(values))]
