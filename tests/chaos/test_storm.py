"""The short form of the storm: everything is broken at random, and nothing is lost or doubled.

The long form is `make chaos-long`; a failure names its seed and keeps its logs.
"""

from __future__ import annotations

import pytest

from support.storm import Size, ride
from support.storm_gremlin import KINDS, Fault, plan

pytestmark = pytest.mark.chaos

SEED = 3
NUM_FAULTS = 36
EVERY_S = 0.5


def timeline(seed: int) -> list[Fault]:
    """The seed's first faults; every kind strikes."""
    return plan(seed, NUM_FAULTS, every_s=EVERY_S)


def test_the_timeline_is_a_function_of_the_seed() -> None:
    assert timeline(SEED) == timeline(SEED)
    assert timeline(SEED) != timeline(SEED + 1)
    assert {fault.kind for fault in plan(SEED, 1000, every_s=EVERY_S)} == set(KINDS)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_is_counted_twice() -> None:
    outcome = await ride(Size(num_workers=12), timeline(SEED), seed=SEED)
    wrong = {kind: found[:5] for kind, found in outcome.findings.wrong.items() if found}
    assert not wrong, f"seed {SEED}: {wrong}"
    assert outcome.struck.total() == NUM_FAULTS
    figures = outcome.findings.figures
    assert figures["groups acknowledged"] > 0
    assert figures["versions"] > 0
