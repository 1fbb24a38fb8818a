"""What a group of a task is expected to teach, from the chances of its rollouts (our choice).

Signal times gain: how likely a group of G is to differ within itself, and how fast success rises
with ability. Neighbours: `curriculum.prediction` gives the chances, `etude` draws by the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum.prediction import Joint, Prediction
from etude_sampler.statistics import Bools, Floats

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
    """Derivative, in the log odds of all heads, of success and of the components' mean chance."""

    @property
    def value_N(self) -> Floats:
        """Their product, in [0, 1/e], rounded."""
        value_N: Floats = np.round(self.signal_N * self.gain_N, DIGITS)
        return value_N


def group_value(
    prediction: Prediction, active_NK: Bools, *, group_size: int, partial: float
) -> GroupValue:
    """The terms of each task's value.

    Args:
        prediction: of N tasks.
        active_NK: their components.
        group_size: G.
        partial: share of the gain that is the components'; the rest is success's.
    """
    chance_NH, joint = prediction.chance_NH, prediction.joint
    same_N = np.ones(len(chance_NH))
    for head in range(chance_NH.shape[1]):
        tries_N = group_size * joint.share_NH[:, head]
        right_N, wrong_N = chance_NH[:, head], 1.0 - chance_NH[:, head]
        same_N = same_N * np.minimum(1.0, right_N**tries_N + wrong_N**tries_N)
    return GroupValue(
        signal_N=np.sqrt(np.clip(1.0 - same_N, 0.0, 1.0)),
        gain_N=_gain(joint, active_NK, partial=partial),
    )


def _gain(joint: Joint, active_NK: Bools, *, partial: float) -> Floats:
    """`(1 - partial) s' + partial mean_k q_k'` over the task's components, summed in order."""
    slope_NH = joint.held_NH * joint.rise_NH
    total_N, num_N = np.zeros(len(slope_NH)), np.zeros(len(slope_NH))
    for k in range(active_NK.shape[1]):
        total_N = total_N + np.where(active_NK[:, k], slope_NH[:, k], 0.0)
        num_N = num_N + active_NK[:, k]
    return (1.0 - partial) * slope_NH[:, -1] + partial * total_N / np.maximum(num_N, 1.0)
