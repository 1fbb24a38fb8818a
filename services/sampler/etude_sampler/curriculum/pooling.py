"""What a pool asks of the rest of a curriculum (algorithms.md 1.2, L8; our choices).

All candidates are drawn from lane `uniform`; chosen tasks bear the lane name `pool`, which is no
race. Neighbour: `resolve` calls this while it fills in a run's config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from etude_proto.v1.curriculum import CurriculumConfig, LanesBy

from .faults import ConfigFault, pointer
from .hard.lanes import NO_SLOTS
from .parts import AllocatorConfig, PoolConfig

AllocatorT = TypeVar("AllocatorT", bound=AllocatorConfig)

POOL = "pool"
"""Lane name of the tasks that a pool chose; the control arm keeps `uniform`."""
FORMER = "former"
"""Lane name of groups from before a fork, in a lane that the fork's curriculum does not have."""


def lane_names(lanes: Sequence[str], *, pooled: bool) -> tuple[str, ...]:
    """Names of the lanes that a drawn task may bear, by number: the races, then `pool`."""
    return (*lanes, POOL) if pooled else tuple(lanes)


def beside_pool(
    config: CurriculumConfig,
    pool: PoolConfig | None,
    allocator: AllocatorT,
    subtasks: Sequence[str],
    *,
    lanes_by: LanesBy,
    weigher: str,
) -> AllocatorT:
    """The allocator beside a pool: mastery from the control arm, the only unbiased sample.

    Raises:
        ConfigFault: the config asks for mastery from all groups, or for lanes or weights that would
            never act.
    """
    if pool is None:
        return allocator
    if POOL in subtasks:
        where, detail = ("subtasks",), f"with a pool the lane name {POOL!r} is reserved"
        raise ConfigFault(pointer("curriculum", *where), detail)
    if lanes_by != "subtasks":
        detail = f"a pool draws from lane `uniform` alone: lanes by {lanes_by} would get no slots"
        raise ConfigFault(pointer("curriculum", "lanes_by"), detail)
    if weigher != "uniform":
        detail = f"a pool draws from lane `uniform` alone: {weigher!r} would never act; 'uniform'"
        raise ConfigFault(pointer("curriculum", "weigher"), detail)
    if config.hard is not None:
        raise ConfigFault(pointer("curriculum", "hard"), NO_SLOTS)
    if "mastery_source" not in type(allocator).model_fields:
        return allocator
    asked = None if config.allocator is None else config.allocator.knobs.get("mastery_source")
    if asked not in (None, "control"):
        where_knob = ("curriculum", "allocator", "knobs", "mastery_source")
        detail = "with a pool only the control arm is a fair sample: 'control'"
        raise ConfigFault(pointer(*where_knob), detail)
    return allocator.model_copy(update={"mastery_source": "control"})
