"""Draw, settle, re-weigh and rebase in Lua against the pure model, bit for bit; and the law."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from etude_sampler.embedded import RunningServer
from etude_sampler.statistics import Floats, Ints
from support.workload_races import TwinRaces, races_on

MICRO = 1_000_000
NAMES = ("uniform", "format", "tool_name", "param_value")


def random_shares(rng: np.random.Generator, num_lanes: int) -> Floats:
    """Shares that sum to about 1; sometimes a lane has none."""
    parts = rng.random(num_lanes) * (rng.random(num_lanes) < 0.8)
    parts[0] += 0.1
    shares: Floats = parts / parts.sum()
    return shares


def random_weights(rng: np.random.Generator, num: int, num_lanes: int) -> Ints:
    """Weights over six orders of magnitude, zeros among them; `uniform` is always 1.

    None is so small that a lane's clock could pass 1e6, where the model rebases by itself.
    """
    powers = rng.uniform(np.log(1e3), np.log(2.0**32 - 1), (num, num_lanes))
    weights = np.exp(powers).astype(np.int64)
    weights[rng.random((num, num_lanes)) < 0.25] = 0
    weights[:, 0] = MICRO
    return weights


async def _random_step(twin: TwinRaces, rng: np.random.Generator, step: str) -> None:
    num_lanes = len(twin.names)
    if step == "draw":
        await twin.draw(int(rng.integers(1, 2 * twin.num_tasks)))
    elif step == "share":
        await twin.share(random_shares(rng, num_lanes))
    elif step == "reweigh":
        tasks = rng.choice(twin.num_tasks, size=int(rng.integers(1, 6)), replace=False).tolist()
        await twin.reweigh(tasks, random_weights(rng, len(tasks), num_lanes))
    elif step == "move":
        tasks = rng.choice(twin.num_tasks, size=int(rng.integers(1, 6)), replace=False).tolist()
        weights_NL = random_weights(rng, len(tasks), num_lanes)
        weights_NL[rng.random(len(tasks)) < 0.3] = 0  # parked
        await twin.move(tasks, weights_NL)
    elif step == "rebase":
        await twin.rebase(int(rng.integers(num_lanes)))
    elif twin.leases:
        lease_id = sorted(twin.leases)[int(rng.integers(len(twin.leases)))]
        tasks = [drawn.ordinal for drawn in twin.leases[lease_id].drawn]
        await twin.settle(lease_id, tasks, random_weights(rng, len(tasks), num_lanes), step)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**64 - 1),
    num_lanes=st.integers(1, 4),
    num_tasks=st.integers(6, 24),
    steps=st.lists(
        st.sampled_from(
            [
                *("draw", "draw", "draw", "report", "release", "expire"),
                *("reweigh", "move", "move", "share", "rebase"),
            ]
        ),
        min_size=1,
        max_size=24,
    ),
)
async def test_every_step_agrees_with_the_model(
    redis_server: RunningServer, seed: int, num_lanes: int, num_tasks: int, steps: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    async with races_on(redis_server.url) as races:
        twin = TwinRaces(
            races, NAMES[:num_lanes], random_shares(rng, num_lanes), seed, num_tasks=num_tasks
        )
        await twin.open(random_weights(rng, num_tasks, num_lanes))
        await twin.compare(redis_server.url)
        for step in steps:
            await _random_step(twin, rng, step)
            await twin.compare(redis_server.url)
        await races.forget(twin.key.run_id)


async def test_slot_probabilities_of_all_waiting_tasks_sum_to_one(
    redis_server: RunningServer,
) -> None:
    rng = np.random.default_rng(3)
    async with races_on(redis_server.url) as races:
        for trial in range(5):
            twin = TwinRaces(races, NAMES, random_shares(rng, 4), trial, num_tasks=40)
            await twin.open(random_weights(rng, 40, 4))
            assert len(await twin.draw(40)) == 40
            (lease,) = twin.leases.values()
            assert sum(d.slot_probability for d in lease.drawn) == pytest.approx(1.0, abs=1e-12)


async def test_batches_larger_than_luas_unpack(redis_server: RunningServer) -> None:
    """Chunks of 1,000 and 2,000 inside the scripts: nothing is lost at their edges."""
    rng = np.random.default_rng(5)
    async with races_on(redis_server.url) as races:
        twin = TwinRaces(races, NAMES, random_shares(rng, 4), 11, num_tasks=4500)
        await twin.open(random_weights(rng, 4500, 4))
        drawn = await twin.draw(4096)
        assert len(set(drawn)) == 4096
        (lease_id,) = twin.leases
        await twin.compare(redis_server.url)
        await twin.settle(lease_id, drawn, random_weights(rng, 4096, 4), "report")
        await twin.compare(redis_server.url)


@pytest.mark.parametrize("k", [1, 2])
async def test_inclusion_follows_the_weights(redis_server: RunningServer, k: int) -> None:
    """Exact weighted sampling without replacement across leases (L3), by chi-square."""
    weights = np.array([0.25, 0.5, 1.0, 1.0, 2.0, 4.0])
    num_draws = 1000
    micro_NL = np.column_stack([np.full(6, MICRO), (weights * MICRO).astype(np.int64)])
    counts: Counter[tuple[int, ...]] = Counter()
    async with races_on(redis_server.url) as races:
        twin = TwinRaces(races, NAMES[:2], np.array([0.0, 1.0]), 20261121, num_tasks=6)
        await twin.open(micro_NL)
        for _ in range(num_draws):
            drawn = await twin.draw(k)
            counts[tuple(drawn)] += 1
            (lease_id,) = twin.leases
            await twin.settle(lease_id, drawn, micro_NL[drawn], "report")
        await twin.compare(redis_server.url)
    expected = {}
    for order in itertools.permutations(range(6), k):
        probability, left = 1.0, weights.sum()
        for one in order:
            probability *= weights[one] / left
            left -= weights[one]
        expected[order] = probability * num_draws
    merged = [order for order in expected if expected[order] >= 5.0]
    rest = num_draws - sum(expected[order] for order in merged)
    seen = [counts[order] for order in merged]
    if rest > 1e-9:
        seen.append(num_draws - sum(seen))
    found = chisquare(seen, [expected[o] for o in merged] + ([rest] if rest > 1e-9 else []))
    assert found.pvalue > 0.001
