"""Reports count exactly once, and only what is valid, fresh and leased; invariant 3."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from etude_proto.v1 import FinishReason, Outcome, Receipt, Report, Verdict
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query
from support.sampler_app_redis import check_laws
from support.waiting import wait_until
from support.workload import cargo, group, outcome, outcomes, report_of


def states(database_url: str) -> list[tuple[object, ...]]:
    """All statistics."""
    return query(
        database_url, "SELECT * FROM task_statistics ORDER BY run_id, ordinal, kind, level"
    )


def verdicts(database_url: str) -> dict[str, int]:
    """Ledger rows by verdict."""
    rows = query(database_url, "SELECT verdict, count(*) FROM ledger GROUP BY verdict")
    return {str(verdict): int(str(num)) for verdict, num in rows}


@pytest.mark.parametrize("with_cargo", [False, True])
async def test_a_retry_gets_the_same_receipt_and_counts_nothing(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer, with_cargo: bool
) -> None:
    run = await pair[0].create_run()
    batch = await pair[0].lease(run.id, 1 if with_cargo else 4)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id) if with_cargo else report_of(batch)
    first = await pair[0].report(batch, body, key="once")
    before = states(database_url)
    for api in (pair[1], pair[0]):
        again = await api.report(batch, body, key="once")
        assert (again.status_code, again.content) == (200, first.content)
    assert states(database_url) == before
    assert verdicts(database_url) == {"applied": len(batch.items)}
    counts = await pair[1].counts(run.id)
    assert (counts.num_leased, counts.num_ready_groups) == (0, int(with_cargo))
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_retry_after_training_brings_no_trajectories_back(
    api: Api, redis_server: RunningServer
) -> None:
    """The lease is still alive with another task when the first one's group is long trained on."""
    run = await api.create_run(limits={"training_batch_groups": 1})
    batch = await api.lease(run.id, 2)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    first = await api.report(batch, body, key="once")
    await api.acked(await api.train(run.id), 1)
    assert (await api.counts(run.id)).cargo_bytes == 0
    again = await api.report(batch, body, key="once")
    assert again.content == first.content
    counts = await api.counts(run.id)
    assert (counts.cargo_bytes, counts.num_ready_groups, counts.num_leased) == (0, 0, 1)
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_changed_body_under_the_same_key_is_refused(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    half = batch.model_copy(update={"items": batch.items[:2]})
    await api.reported(half, key="once")
    before, hot = states(database_url), check_laws(redis_server.url, run.id, num_tasks=12)
    for other in (report_of(half, skill=0.9), report_of(batch), report_of(half, group_size=5)):
        problem(await api.report(batch, other, key="once"), 422, "idempotency_key_reused")
    assert states(database_url) == before
    after = check_laws(redis_server.url, run.id, num_tasks=12)
    assert after.without_deadlines() == hot.without_deadlines()


async def test_another_key_does_not_make_it_another_report(api: Api, database_url: str) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    half = batch.model_copy(update={"items": batch.items[:2]})
    await api.reported(half)
    before = states(database_url)
    found = problem(await api.report(batch, report_of(half)), 422, "task_not_leased")
    assert [item.pointer for item in found.errors] == ["/groups/0/task_id", "/groups/1/task_id"]
    assert "already reported" in found.errors[0].detail
    assert states(database_url) == before
    found = problem(await api.report(batch, report_of(batch)), 422, "task_not_leased")
    assert len(found.errors) == 2, "the other two tasks are not applied either"
    assert states(database_url) == before
    rest = batch.model_copy(update={"items": batch.items[2:]})
    assert (await api.reported(rest)).num_remaining == 0


async def test_the_same_report_at_once_on_two_replicas_counts_once(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await pair[0].create_run()
    batch = await pair[0].lease(run.id, 4)
    answers = await asyncio.gather(
        *(pair[i % 2].report(batch, report_of(batch), key="same") for i in range(6))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert verdicts(database_url) == {"applied": 4}
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_invariant_3_exactly_once_whatever_rivals_report(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """A worker that was believed dead and its successor both report the same lease."""
    run = await pair[0].create_run()
    batch = await pair[0].lease(run.id, 4)
    answers = await asyncio.gather(
        *(pair[i % 2].report(batch, report_of(batch), key=f"key-{i}") for i in range(6))
    )
    applied = [answer for answer in answers if answer.status_code == 200]
    assert len(applied) == 1
    assert {answer.status_code for answer in answers} <= {200, 409, 422}
    found = verdicts(database_url)
    assert found["applied"] == 4
    assert query(database_url, "SELECT DISTINCT n FROM task_statistics") == [(1,)]
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_wrong_fence_is_refused_and_harms_nobody(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Somebody else's lease: the id alone proves nothing, and the owner's report still counts."""
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    hot = check_laws(redis_server.url, run.id, num_tasks=12)
    for fence in (batch.lease.fence - 1, batch.lease.fence + 1, 0):
        stolen = report_of(batch, skill=0.9).model_copy(update={"fence": fence})
        problem(await api.report(batch, stolen), 409, "lease_superseded")
        body = {"fence": fence}
        for call in ("extend", "release"):
            answer = await api.post(f"/v1/leases/{batch.lease.id}/{call}", body)
            problem(answer, 409, "lease_superseded")
    assert states(database_url) == []
    after = check_laws(redis_server.url, run.id, num_tasks=12)
    assert after.without_deadlines() == hot.without_deadlines()
    assert set(verdicts(database_url)) == {"late"}
    assert (await api.view(run.id)).num_groups_late == verdicts(database_url)["late"]
    receipt = await api.reported(batch)
    assert {a.verdict for g in receipt.groups for a in g.attempts} == {"applied"}
    assert verdicts(database_url)["applied"] == 4


async def test_reports_after_the_lease_are_kept_as_late(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await api.create_run(num_tasks=4)
    batch = await api.lease(run.id, 4, ttl_s=0.2)

    async def expired() -> bool:
        return (await api.counts(run.id)).num_expired == 4

    await wait_until(expired, what="the lease expires")
    for _ in range(2):
        problem(await api.report(batch, key="late"), 409, "lease_superseded")
    assert (verdicts(database_url), states(database_url)) == ({"late": 4}, [])
    assert (await api.view(run.id)).num_groups_late == 4
    (entry,) = (await api.task(run.id, batch.items[0].task.id)).recent
    assert entry.verdict == "late"
    again = await api.lease(run.id, 4)
    await api.reported(again)
    assert verdicts(database_url) == {"late": 4, "applied": 4}
    assert (await api.view(run.id)).num_groups_applied == 4
    check_laws(redis_server.url, run.id, num_tasks=4)


async def test_late_reports_of_a_lease_are_bounded(valkey_api: Api, database_url: str) -> None:
    """Whoever makes up fences gets the same refusal, and no room on the disk."""
    api = valkey_api
    run = await api.create_run(num_tasks=4, limits={"max_batch_tasks": 4})
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    await api.post(f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence})
    told = []
    for number in range(6):
        report = report_of(batch).model_copy(update={"fence": batch.lease.fence + number})
        told.append(problem(await api.report(batch, report), 409, "lease_superseded").detail)
    assert ["kept as late" in detail for detail in told] == [True] * 4 + [False] * 2
    assert "not kept: there are too many of this lease" in told[-1]
    assert verdicts(database_url) == {"late": 16}


FAILURES = [FinishReason.ERROR, FinishReason.TIMEOUT, FinishReason.ABORTED]


@pytest.mark.parametrize("failure", FAILURES)
async def test_infrastructure_failures_never_move_statistics(
    valkey_api: Api, database_url: str, failure: FinishReason
) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=3)
    batch = await api.lease(run.id, 3)
    assert batch.lease is not None
    dead = outcome({"format": 1.0}, finish=failure)
    good = outcomes([1.0, 0.0])
    groups: list[Sequence[Outcome]] = [[dead] * 4, [dead, dead, dead, good[0]], [dead, dead, *good]]
    report = Report(
        fence=batch.lease.fence,
        groups=[group(i.task.id, g) for i, g in zip(batch.items, groups, strict=True)],
    )
    receipt = await api.reported(batch, report)
    assert [g.attempts[0].verdict for g in receipt.groups] == ["invalid", "invalid", "applied"]
    assert [g.gate for g in receipt.groups] == ["not_applied", "not_applied", "no_tokens"]
    unseen, also_unseen, seen = [(await api.task(run.id, i.task.id)) for i in batch.items]
    assert (unseen.statistics, also_unseen.statistics) == ([], [])
    (found,) = seen.statistics
    assert (found.num_groups, found.num_successes, found.num_failures) == (1, 1.0, 1.0)
    assert found.component_means == {"format": 0.5}
    assert len(seen.recent[0].rewards) == 4, "the ledger keeps what happened"
    assert verdicts(database_url) == {"invalid": 2, "applied": 1}


async def test_outcomes_of_long_ago_are_stored_not_applied(
    valkey_api: Api, database_url: str
) -> None:
    """More than eight versions old: in the ledger only. Eight is still fine."""
    api = valkey_api
    run = await api.create_run(num_tasks=4, mode="curriculum_only")
    for version in range(1, 10):
        await api.announced(run.id, version)
    batch = await api.lease(run.id, 3)
    assert batch.lease is not None
    mixed = [*outcomes([1.0], version=9), *outcomes([0.0], version=0)]
    rollouts = [outcomes([1.0, 0.0], version=0), outcomes([1.0, 0.0], version=1), mixed]
    report = Report(
        fence=batch.lease.fence,
        groups=[group(i.task.id, g) for i, g in zip(batch.items, rollouts, strict=True)],
    )
    receipt = await api.reported(batch, report)
    found = [g.attempts[0].verdict for g in receipt.groups]
    assert found == [Verdict.STALE, Verdict.APPLIED, Verdict.STALE]
    assert [g.attempts[0].apply_seq is None for g in receipt.groups] == [True, False, True]
    assert verdicts(database_url) == {"stale": 2, "applied": 1}
    assert len(states(database_url)) == 1


async def test_a_report_is_applied_as_a_whole_or_not_at_all(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await api.create_run()
    mine, other = await api.lease(run.id, 4), await api.lease(run.id, 4)
    hot = check_laws(redis_server.url, run.id, num_tasks=12)
    good, foreign = report_of(mine), report_of(other)
    mixed = good.model_copy(update={"groups": [*good.groups, foreign.groups[0]]})
    found = problem(await api.report(mine, mixed), 422, "task_not_leased")
    assert [item.pointer for item in found.errors] == ["/groups/4/task_id"]
    twice = good.model_copy(update={"groups": [good.groups[0], *good.groups]})
    problem(await api.report(mine, twice), 422, "payload_invalid")
    assert (states(database_url), verdicts(database_url)) == ([], {})
    after = check_laws(redis_server.url, run.id, num_tasks=12)
    assert after.without_deadlines() == hot.without_deadlines()
    assert parse(await api.report(mine, good), Receipt).num_remaining == 0
