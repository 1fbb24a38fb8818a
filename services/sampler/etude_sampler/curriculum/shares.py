"""Lane shares of a whole run: the allocator's, and those of hard sampling beside them (3.5).

Neighbours: `allocators` move the shares of `uniform` and the components, `hard` adds its lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude_sampler.statistics import Floats

from .state import AllocatorState

if TYPE_CHECKING:
    from .resolve import Curriculum


def lane_shares(curriculum: Curriculum, state: AllocatorState) -> Floats:
    """Shares of the slots, one a lane, in lane order; they sum to 1."""
    shares = curriculum.allocator.shares(state)
    if curriculum.hard is None:
        return shares
    return curriculum.hard.at(state.pace["hard"]).shares(shares)
