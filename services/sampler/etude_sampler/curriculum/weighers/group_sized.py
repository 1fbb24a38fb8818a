"""What the weighers share whose formula has a G: how many rollouts a group is expected to have.

Neighbours: `mixed_group`, `arcus`, `etude`.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field

from etude_sampler.curriculum.parts import GROUP_SIZE, Context, WeigherConfig


class GroupSizedConfig(WeigherConfig):
    """Base of the weighers that ask what a group of G rollouts would show."""

    group_size: int | None = Field(default=None, ge=2, le=4096)
    """G of the formula; default: the run's group size, or what its budget gives in the mean."""

    @property
    def size(self) -> int:
        """G."""
        return GROUP_SIZE if self.group_size is None else self.group_size

    def filled(self, context: Context) -> Self:
        """With the run's number, if none was given."""
        if self.group_size is not None:
            return self
        return self.model_copy(update={"group_size": context.group_size})
