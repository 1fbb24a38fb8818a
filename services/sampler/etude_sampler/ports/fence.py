"""Fences: the epoch, kept in PostgreSQL, above a counter in Redis; they never repeat."""

from __future__ import annotations

FENCE_BITS = 36
"""Bits of the counter."""


def first_fence(epoch: int) -> int:
    """What the counter of an epoch starts from."""
    return epoch << FENCE_BITS


def epoch_of(fence: int) -> int:
    """The epoch at which a fence was given out."""
    return fence >> FENCE_BITS
