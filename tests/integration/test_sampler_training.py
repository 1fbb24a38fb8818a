"""The ready queue: what is admitted, in which order it is trained on, and what makes room."""

from __future__ import annotations

import hashlib

from etude_proto.tensors import decode_group
from etude_proto.v1 import DegradedReason, FinishReason, GateVerdict, HistoryPage
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, query
from support.sampler_app_redis import check_laws
from support.workload import cargo, group, outcome, report_of
from support.workload_model import check_run

FLAT = (1.0, 1.0, 1.0, 1.0)


async def test_a_training_batch_holds_the_bytes_that_were_reported(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 5)
    assert batch.lease is not None
    sent = {}
    for number, item in enumerate(batch.items):
        body = cargo(batch.lease.fence, item.task.id, num_tokens=4 + number)
        sent[item.task.id] = body
        receipt = await api.reported(batch, body)
        assert receipt.groups[0].gate is GateVerdict.ADMITTED
        assert receipt.num_remaining == 4 - number
    assert (await api.counts(run.id)).cargo_bytes == sum(map(len, sent.values()))
    frame = await api.train(run.id)
    manifest = frame.manifest
    assert manifest.lease is not None
    assert (manifest.degraded, manifest.policy_version, manifest.num_groups_drawn) == (False, 0, 5)
    assert [ref.task_id for ref in manifest.groups] == [i.task.id for i in batch.items[:4]]
    lanes = {item.task.id: item.lane for item in batch.items}
    for ref, body in zip(manifest.groups, frame.bodies, strict=True):
        assert body == sent[ref.task_id]
        assert ref.sha256 == hashlib.sha256(body).hexdigest()
        assert (ref.num_bytes, ref.lease_id) == (len(body), batch.lease.id)
        assert ref.lane == lanes[ref.task_id]
        _, report = decode_group(body)
        assert report.groups[0].task_id == ref.task_id
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_training_groups) == (1, 4)
    assert counts.num_groups_drawn == 0
    await api.acked(frame, 1)
    after = await api.counts(run.id)
    assert (after.num_training_groups, after.num_training_leases) == (0, 0)
    assert after.cargo_bytes == len(sent[batch.items[4].task.id])
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_groups_that_teach_nothing_are_counted_but_not_trained_on(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    first, *rest = batch.items
    receipts = await api.report_cargo(batch.model_copy(update={"items": [first]}), values=FLAT)
    json_only = batch.model_copy(update={"items": rest[:1]})
    receipts.append(await api.reported(json_only, report_of(json_only)))
    one_valid = group(
        rest[1].task.id,
        [outcome({"format": 1.0}), *[outcome({"format": 0.0}, finish=FinishReason.ERROR)] * 3],
    )
    body = report_of(batch).model_copy(update={"groups": [one_valid]})
    receipts.append(await api.reported(batch, body))
    assert [r.groups[0].gate for r in receipts] == ["zero_variance", "no_tokens", "not_applied"]
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.cargo_bytes) == (0, 0)
    (control, curriculum) = (await api.view(run.id)).arms
    assert control.num_groups + curriculum.num_groups == 2
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_the_oldest_groups_are_trained_on_first(api: Api) -> None:
    """Ordered by the oldest version in the group, then by order of application."""
    run = await api.create_run(limits={"training_batch_groups": 2, "max_staleness": 8})
    order = []
    for version in range(3):
        old, new = await api.lease(run.id, 2), await api.lease(run.id, 2)
        for batch in (new, old):
            assert batch.lease is not None
            for item in batch.items:
                body = cargo(
                    batch.lease.fence, item.task.id, version=0 if batch is old else version
                )
                receipt = await api.reported(batch, body)
                order.append(
                    (0 if batch is old else version, receipt.groups[0].attempts[0].apply_seq)
                )
        frame = await api.train(run.id)
        found = [(ref.min_policy_version, ref.apply_seq) for ref in frame.manifest.groups]
        order.sort()
        assert found == order[:2]
        del order[:2]
        await api.acked(frame, version + 1)


async def test_refill_ends_with_a_short_batch(api: Api, redis_server: RunningServer) -> None:
    """B = 4: once ceil(1.5 * 4) * 4 = 24 groups came back, what there is is served."""
    limits = {"refill_rounds": 3, "refill_over_draw": 1.5, "cap_groups": 24}
    run = await api.create_run(num_tasks=30, limits=limits)
    batch = await api.lease(run.id, 24)
    one = batch.model_copy(update={"items": batch.items[:1]})
    rest = batch.model_copy(update={"items": batch.items[1:23]})
    last = batch.model_copy(update={"items": batch.items[23:]})
    await api.report_cargo(one)
    await api.report_cargo(rest, values=FLAT)
    waiting = (await api.train(run.id)).manifest
    assert (waiting.lease, waiting.groups) == (None, [])
    assert (waiting.degraded, waiting.degraded_reason) == (True, DegradedReason.NOT_READY)
    await api.report_cargo(last, values=FLAT)
    short = await api.train(run.id)
    assert short.manifest.lease is not None
    assert short.manifest.degraded_reason is DegradedReason.REFILL_EXHAUSTED
    assert short.manifest.num_groups_drawn == 24
    assert [ref.task_id for ref in short.manifest.groups] == [batch.items[0].task.id]
    await api.acked(short, 1)
    again = (await api.train(run.id)).manifest
    assert again.degraded_reason is DegradedReason.NOT_READY, "the count begins anew"
    check_laws(redis_server.url, run.id, num_tasks=30)


async def test_refill_may_end_with_nothing(api: Api) -> None:
    run = await api.create_run(num_tasks=30, limits={"refill_rounds": 0, "refill_over_draw": 1.0})
    await api.report_cargo(await api.lease(run.id, 4), values=FLAT)
    nothing = (await api.train(run.id, wait_s=20)).manifest
    assert (nothing.lease, nothing.groups) == (None, [])
    assert nothing.degraded_reason is DegradedReason.REFILL_EXHAUSTED
    assert nothing.num_groups_drawn == 4
    assert (await api.counts(run.id)).num_groups_drawn == 0


async def test_announcing_purges_what_became_too_stale(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(
        num_tasks=30, limits={"training_batch_groups": 1, "max_staleness": 1, "cap_groups": 12}
    )
    batch = await api.lease(run.id, 6)
    await api.report_cargo(batch)
    await api.acked(await api.train(run.id), 1)
    assert (await api.counts(run.id)).num_ready_groups == 5, "one version old is allowed"
    await api.acked(await api.train(run.id), 2)
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_purged, counts.cargo_bytes) == (0, 4, 0)
    assert len((await api.lease(run.id, 30)).items) == 12, "their slots are free again"
    check_laws(redis_server.url, run.id, num_tasks=30)


async def test_a_group_too_stale_on_arrival_counts_but_is_not_kept(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(
        limits={"training_batch_groups": 1, "max_staleness": 0, "cap_groups": 3}
    )
    old, good = await api.lease(run.id, 2), await api.lease(run.id, 1)
    await api.report_cargo(good)
    await api.acked(await api.train(run.id), 1)
    receipts = await api.report_cargo(old)
    assert [r.groups[0].gate for r in receipts] == ["too_stale", "too_stale"]
    assert [r.groups[0].attempts[0].verdict for r in receipts] == ["applied", "applied"]
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.cargo_bytes) == (0, 0)
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_the_byte_budget_drops_the_stalest_groups(
    api: Api, redis_server: RunningServer
) -> None:
    limits = {"training_batch_groups": 1, "max_group_bytes": 1 << 15, "cargo_bytes": 1 << 16}
    run = await api.create_run(limits=limits | {"cap_groups": 5})
    batch = await api.lease(run.id, 5)
    assert batch.lease is not None
    sizes = []
    for item in batch.items:
        body = cargo(batch.lease.fence, item.task.id, num_tokens=450)
        sizes.append(len(body))
        receipt = await api.reported(batch, body)
        assert receipt.groups[0].gate is GateVerdict.ADMITTED
    assert 2 * sizes[0] < (1 << 16) < 3 * sizes[0]
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_evicted) == (2, 3)
    assert counts.cargo_bytes == sum(sizes[3:]) <= 1 << 16
    frame = await api.train(run.id)
    assert [ref.task_id for ref in frame.manifest.groups] == [batch.items[3].task.id]
    assert (await api.view(run.id)).num_groups_applied == 5
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_groups_in_training_are_never_dropped_for_bytes(
    api: Api, redis_server: RunningServer
) -> None:
    """With the whole budget in training batches a new group's outcomes count, its bytes go."""
    limits = {"training_batch_groups": 1, "max_group_bytes": 1 << 15, "cargo_bytes": 1 << 16}
    run = await api.create_run(limits=limits)
    batch = await api.lease(run.id, 3)
    assert batch.lease is not None
    bodies = [cargo(batch.lease.fence, i.task.id, num_tokens=450) for i in batch.items]
    for body in bodies[:2]:
        await api.reported(batch, body)
    frames = [await api.train(run.id) for _ in range(2)]
    receipt = await api.reported(batch, bodies[2], key="third")
    assert receipt.groups[0].gate is GateVerdict.EVICTED
    assert receipt.groups[0].attempts[0].verdict == "applied"
    assert await api.reported(batch, bodies[2], key="third") == receipt
    counts = await api.counts(run.id)
    assert (counts.num_training_groups, counts.num_ready_groups) == (2, 0)
    assert [frame.bodies[0] for frame in frames] == bodies[:2]
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_acks_fold_what_was_reported(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await api.create_run(num_tasks=24, limits={"training_batch_groups": 4})
    boundaries = []
    for version in range(1, 5):
        batch = await api.lease(run.id, 6)
        receipts = await api.report_cargo(batch, values=(1.0, 0.0, 1.0, float(version % 2)))
        boundaries.append(receipts[-1].groups[0].attempts[0].apply_seq or 0)
        receipt = await api.acked(await api.train(run.id), version)
        assert receipt.num_groups == 6
        check_run(database_url, redis_server.url, run, boundaries=boundaries)
    page = parse(await api.get(f"/v1/runs/{run.id}/history"), HistoryPage)
    assert [point.metrics for point in page.items] == [{"loss": 0.25}] * 4
    assert [point.weights_uri for point in page.items][-1] == "file:///weights/v4"
    rows = query(database_url, "SELECT count(DISTINCT apply_seq), count(*) FROM ledger")
    assert rows == [(24, 24)]
