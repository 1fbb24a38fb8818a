"""What a group of a task is expected to teach, from the chances of its rollouts (our choice).

Signal times gain: how likely a group of G is to differ within itself, and how fast success rises
with ability. Neighbours: `curriculum.prediction` gives the chances, `etude` draws by the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum.prediction import Prediction
from etude_sampler.statistics import Floats

HIGHEST = float(np.exp(-1.0))
"""No value is larger: `-s ln s` has its top at 1/e."""
DIGITS = 5
"""Decimals of a value, so that another machine's last bit changes no weight."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupValue:
    """The terms of N tasks."""

    signal_N: Floats
    """`sqrt(1 - prod_h same_h)`, `same_h = min(1, p^x + (1 - p)^x)`, x = G times the share of
    rollouts that get as far as head h: the size of the advantages of a group that may be mixed."""
    gain_N: Floats
    """`s sum_h (1 - p_h)`: the derivative of success s in the log odds of all heads."""

    @property
    def value_N(self) -> Floats:
        """Their product, in [0, 1/e], rounded."""
        value_N: Floats = np.round(self.signal_N * self.gain_N, DIGITS)
        return value_N


def group_value(prediction: Prediction, *, group_size: int) -> GroupValue:
    """The terms of each task's value for a group of `group_size` rollouts."""
    chance_NH, joint = prediction.chance_NH, prediction.joint
    same_N = np.ones(len(chance_NH))
    for head in range(chance_NH.shape[1]):
        tries_N = group_size * joint.share_NH[:, head]
        right_N, wrong_N = chance_NH[:, head], 1.0 - chance_NH[:, head]
        same_N = same_N * np.minimum(1.0, right_N**tries_N + wrong_N**tries_N)
    return GroupValue(
        signal_N=np.sqrt(np.clip(1.0 - same_N, 0.0, 1.0)),
        gain_N=joint.success_N * joint.rise_N,
    )
