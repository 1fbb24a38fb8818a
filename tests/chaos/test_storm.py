"""The short form of the storm: everything is broken at random, and nothing is lost or doubled.

The long form is `make chaos-long`; a failure names its seed and keeps its logs.
"""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from support.storm import Size, Storm, ride
from support.storm_audit import audit
from support.storm_diary import Diary
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


DAMAGE = {
    "lost": (
        "UPDATE ledger SET verdict = 'late' WHERE apply_seq = "
        "(SELECT max(apply_seq) FROM ledger WHERE verdict = 'applied')"
    ),
    "statistics, mastery and weights": (
        "UPDATE task_statistics SET n = n + 1 WHERE ctid = (SELECT min(ctid) FROM task_statistics)"
    ),
    "versions": (
        "UPDATE policy_versions SET version = version + 1 "
        "WHERE version = (SELECT max(version) FROM policy_versions)"
    ),
    "holes in the decision log": "DELETE FROM decisions WHERE number = 2",
}
"""One change of the truth for each kind of finding, which has to see it."""


async def test_the_auditor_sees_damage() -> None:
    """Each change is made in turn, and found as what it is; the next one comes on top."""
    calm = [Fault(number, 0.5 * number, "cut", 7 * number, 0.1) for number in range(12)]

    async def damage(storm: Storm, diary: Diary) -> None:
        for kind, statement in DAMAGE.items():
            with psycopg.connect(storm.postgres.url.replace("+asyncpg", "", 1)) as connection:
                assert connection.execute(statement.encode()).rowcount > 0
            found = await asyncio.to_thread(
                audit, storm.postgres.url, storm.valkey.url, storm.runs, diary
            )
            assert found.wrong[kind], f"{kind} is not seen"
        async with storm.valkey.client() as redis:
            await redis.zpopmin(f"etude:{{{storm.runs[1].id}}}:lane:0")
        found = await asyncio.to_thread(
            audit, storm.postgres.url, storm.valkey.url, storm.runs, diary
        )
        assert found.wrong["conservation, queue and cargo"]

    outcome = await ride(Size(num_replicas=1, num_workers=6), calm, seed=SEED, after=damage)
    assert outcome.num_wrong == 0, dict(outcome.findings.wrong)
