"""The ready queue is full, every worker backs off, the trainer is slow, staleness purges.

Ten minutes of eight workers on the default limits: nothing livelocks, and nearly every group that
was generated is trained on. Simulated time passes faster; sampler and store are real.
"""

from __future__ import annotations

import pytest

from etude_sampler.embedded import RunningServer
from support.backpressure import SLOW_STEP_S, STEP_S, Simulation, scaled_limits
from support.sampler_app import sampler_app

pytestmark = pytest.mark.chaos

MINUTES = 10.0
SPEED = 20.0
WASTED_AT_MOST = 0.05


async def test_hardly_a_group_is_generated_in_vain(
    database_url: str, valkey: RunningServer
) -> None:
    async with (
        sampler_app(database_url, valkey.url) as first,
        sampler_app(database_url, valkey.url) as second,
    ):
        limits = scaled_limits(SPEED).model_dump(exclude={"cap_groups"})
        limits["training_batch_groups"] = 8
        run = await first.create_run(num_tasks=400, limits=limits)
        tally = await Simulation([first, second], run, SPEED).simulate(MINUTES)
    print("\n".join(tally.lines()))
    assert tally.wasted_share < WASTED_AT_MOST, tally.lines()
    assert tally.longest_pause_s < 2 * SLOW_STEP_S, "training stood still"
    steps = 60.0 * MINUTES / (STEP_S * 1.4)
    assert tally.trained > 0.5 * steps * 8, "the trainer was kept busy, on a loaded machine, too"
    assert tally.waited_s > 60.0, "workers had to wait: the trainer was the slow one"
