"""What scaffolds without chance and without history have in common. Neighbours: all parts here."""

from __future__ import annotations

from dataclasses import dataclass

from etude_proto.v1 import Aids
from etude_sampler.curriculum.scaffolding import Aid


@dataclass(frozen=True, slots=True)
class PlainScaffolding:
    """A scaffold that asks for nothing but the task."""

    kind: str
    aid: Aid | None = None
    needs_history: bool = False

    def num_strangers(self, aids: Aids) -> int:
        """None."""
        return 0

    def num_numbers(self, aids: Aids) -> int:
        """None."""
        return 0

    def largest(self, group_size: int) -> int:
        """The group."""
        return group_size
