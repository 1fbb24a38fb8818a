"""Preset `learnability_fresh` over HTTP: the bar is that of the version the report meets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from etude_proto.v1 import GateVerdict, PromptBatch, Report
from support.replaying import replayed
from support.sampler_app import Api, query
from support.time_travel import Traveller
from support.workload import group, outcomes

KEPT, DROPPED = GateVerdict.NO_TOKENS, GateVerdict.ZERO_VARIANCE
"""Of a curriculum-only run: what would be trained on, had it tokens, and what would not."""


def _report(batch: PromptBatch, successes: Sequence[int], *, size: int = 4) -> Report:
    """Groups of `size` with so many right, in the batch's order."""
    assert batch.lease is not None
    return Report(
        fence=batch.lease.fence,
        groups=[
            group(item.task.id, outcomes([1.0] * m + [0.0] * (size - m)))
            for item, m in zip(batch.items, successes, strict=True)
        ],
    )


async def _verdicts(api: Api, batch: PromptBatch, successes: Sequence[int]) -> list[GateVerdict]:
    receipt = await api.reported(batch, _report(batch, successes))
    return [one.gate for one in receipt.groups]


async def test_both_replicas_keep_by_the_bar_of_the_version(
    pair: tuple[Api, Api], database_url: str
) -> None:
    """A replica that has not heard of a version yet reads it before it judges."""
    here, there = pair
    curriculum = {"preset": "learnability_fresh"}
    run = await here.create_run(num_tasks=24, mode="curriculum_only", curriculum=curriculum)
    first, second = await here.lease(run.id, 4), await there.lease(run.id, 4)
    assert await _verdicts(here, first, [2, 1, 0, 4]) == [KEPT, KEPT, DROPPED, DROPPED]
    await here.announced(run.id, 1)  # the best quarter of these scores 1/4
    assert await _verdicts(there, second, [1, 2, 3, 2]) == [DROPPED, KEPT, DROPPED, KEPT]
    sizes = "SELECT jsonb_array_length((allocator_state::jsonb)->'pace'->'gate') FROM runs"
    assert query(database_url, sizes) == [(4,)]
    await there.announced(run.id, 2)
    assert query(database_url, sizes) == [(8,)]


async def test_the_bar_goes_back_and_along(valkey_api: Api, database_url: str) -> None:
    """Restore and fork have the scores of the step; the batches are drawn again the same."""
    api = valkey_api
    curriculum = {"preset": "learnability_fresh", "gate": {"name": "learnability"}}
    run = await api.create_run(num_tasks=24, mode="curriculum_only", curriculum=curriculum)
    one = Traveller(api, run, database_url)
    batch = await api.lease(run.id, 4)
    await _verdicts(api, batch, [1, 0, 0, 4])
    await one.announce()
    checkpoint = await one.checkpoint()
    for step in (2, 3):
        again = await api.lease(run.id, 4)
        kept = await _verdicts(api, again, [2, 2, 2, 1])
        assert kept == [KEPT, KEPT, KEPT, KEPT if step == 2 else DROPPED]
        await one.announce()
    await one.restore(checkpoint.id)
    back = await api.lease(run.id, 4)
    assert await _verdicts(api, back, [2, 1, 1, 0]) == [KEPT, KEPT, KEPT, DROPPED]
    fork = await one.fork("fork", checkpoint_id=checkpoint.id)
    begun = await api.lease(fork.id, 2)
    assert await _verdicts(api, begun, [1, 0]) == [KEPT, DROPPED]
    other = await one.fork("other", curriculum={"preset": "uniform"}, checkpoint_id=checkpoint.id)
    rows = query(database_url, "SELECT allocator_state FROM runs WHERE id = %s", other.id)
    assert "gate" not in json.loads(str(rows[0][0])).get("pace", {})
    report = await replayed(database_url, run.id)
    assert (report.differences, report.ledger.first_fault) == ([], None)
