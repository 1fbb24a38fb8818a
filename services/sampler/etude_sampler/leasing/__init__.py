"""Draws: counter-based randomness, lane races, slots of a batch (algorithms.md 1.2).

Pure functions; `store/redis/lua` does the same on sorted sets, and the tests compare the two.
"""

from __future__ import annotations

from .entries import exponentials, lane_key, uniforms
from .lanes import Drawn, Lanes
from .philox import philox4x32
from .race import MICRO, Race, arrival
from .slots import allot_slots, slot_probability

__all__ = [
    "MICRO",
    "Drawn",
    "Lanes",
    "Race",
    "allot_slots",
    "arrival",
    "exponentials",
    "lane_key",
    "philox4x32",
    "slot_probability",
    "uniforms",
]
