"""The lanes that hard sampling adds to a run's, and the names it takes for them.

Neighbours: `sampling` fills them, `resolve` lays out a run's lanes.
"""

from __future__ import annotations

from collections.abc import Sequence

from etude_sampler.curriculum.faults import ConfigFault, pointer

from .sampling import HARD_LANE, PROBE_LANE

ADDED = (HARD_LANE, PROBE_LANE)
"""After the component lanes, in this order."""


def with_hard(lanes: Sequence[str], hard: object | None) -> list[str]:
    """Lanes of a run, with those of hard sampling if it has it."""
    return [*lanes, *(() if hard is None else ADDED)]


NO_SLOTS = "a pool draws from lane `uniform` alone: lanes `hard` and `probe` would get no slots"


def beside_hard(hard: object | None, subtasks: Sequence[str], *, pool: object | None) -> None:
    """Refuse what hard sampling cannot stand beside.

    Raises:
        ConfigFault: sub-tasks that bear the names of the added lanes, a pool.
    """
    if hard is None:
        return
    if pool is not None:
        raise ConfigFault(pointer("curriculum", "pool"), NO_SLOTS)
    for place, name in enumerate(subtasks):
        if name in ADDED:
            raise ConfigFault(
                pointer("curriculum", "subtasks", place),
                f"with hard sampling the lane name {name!r} is reserved",
            )
