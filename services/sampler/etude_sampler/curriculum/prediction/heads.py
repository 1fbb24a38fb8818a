"""What is predicted of a task: each component given its prerequisites, then success.

Head h < K is component h among the rollouts whose prerequisites held; head K is success among those
whose components held. With ToolRL's chain a joint chance is a product along the chain; components
without links are taken one by one. Without any component, success alone is left. Neighbours:
`difficulty` and `ability` learn the heads, `weighers.etude` values them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Bools, Floats


@dataclass(frozen=True, slots=True)
class Heads:
    """K components and success, H = K + 1."""

    names: tuple[str, ...]
    before: tuple[tuple[int, ...], ...]
    """Components that must hold first, direct and indirect, by component."""
    order: tuple[int, ...]
    """The components, each after its prerequisites."""

    def __len__(self) -> int:
        """H."""
        return len(self.names)

    def active(self, active_NK: Bools) -> Bools:
        """[N, H]: which heads a task has; all have success."""
        return np.concatenate([active_NK, np.ones((len(active_NK), 1), dtype=np.bool_)], axis=1)

    def split(self, mean_NK: Floats, success_N: Floats) -> tuple[Floats, Floats]:
        """From what was seen to heads.

        Args:
            mean_NK: means of the components; nan where inactive.
            success_N: share of successes.

        Returns:
            Share [N, H] of the rollouts in which the prerequisites held (0 where inactive), and
            share [N, H] in which the head held too, at most the first.
        """
        held_NH = np.concatenate([mean_NK, success_N[:, None]], axis=1)
        filled_NK = np.where(np.isnan(mean_NK), 1.0, mean_NK)
        share_NH = np.stack(
            [_least(filled_NK, before) for before in (*self.before, self.order)], axis=1
        )
        inactive_NH = np.isnan(held_NH)
        share_NH = np.where(inactive_NH, 0.0, share_NH)
        return share_NH, np.where(inactive_NH, 0.0, np.minimum(held_NH, share_NH))

    def join(self, chance_NH: Floats) -> Joint:
        """From heads to joint chances: the inverse of `split`.

        Args:
            chance_NH: chance of each head where its prerequisites hold; 1 where inactive.
        """
        share_NH, held_NH = np.ones_like(chance_NH), np.array(chance_NH)
        rise_NH = 1.0 - chance_NH
        for head, before in [*((k, self.before[k]) for k in self.order), (-1, self.order)]:
            for other in before:
                binds_N = held_NH[:, other] < share_NH[:, head]
                share_NH[:, head] = np.where(binds_N, held_NH[:, other], share_NH[:, head])
                rise_N = 1.0 - chance_NH[:, head] + rise_NH[:, other]
                rise_NH[:, head] = np.where(binds_N, rise_N, rise_NH[:, head])
            held_NH[:, head] = share_NH[:, head] * chance_NH[:, head]
        return Joint(share_NH, held_NH, rise_NH)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """What the heads' chances amount to."""

    share_NH: Floats
    """Chance that the prerequisites of a head hold: the smallest of theirs."""
    held_NH: Floats
    """Chance that the head holds too; where inactive that of its prerequisites."""
    rise_NH: Floats
    """Derivative of its logarithm if the log odds of all heads rise together.

    The sum of `1 - p` over the head, the prerequisite that binds it, and that one's; at most
    `-ln held`.
    """

    @property
    def success_N(self) -> Floats:
        """Chance of success."""
        return self.held_NH[:, -1]


def make_heads(subtasks: Sequence[str], prerequisites: Mapping[str, Sequence[str]]) -> Heads:
    """The heads of a run.

    Args:
        subtasks: component lanes, in order.
        prerequisites: sub-task -> all that come before it, direct and indirect, of `subtasks`.
    """
    place = {name: k for k, name in enumerate(subtasks)}
    before = tuple(
        tuple(place[other] for other in prerequisites.get(name, ())) for name in subtasks
    )
    order = tuple(sorted(range(len(before)), key=lambda k: len(before[k])))
    return Heads((*subtasks, "success"), before, order)


def _least(values_NK: Floats, columns: Sequence[int]) -> Floats:
    """[N] the smallest of some columns; 1 without any."""
    least_N = np.ones(len(values_NK))
    for column in columns:
        least_N = np.minimum(least_N, values_NK[:, column])
    return least_N
