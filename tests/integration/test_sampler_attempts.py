"""Several attempts in one report: scaffold levels kept apart; invariant 7, un-hinted truth."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from etude_proto.v1 import Attempt, FinishReason, GroupReport, PromptBatch, Report
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, problem, query
from support.sampler_app_redis import check_laws
from support.workload import outcome, outcomes
from support.workload_model import applied_groups, check_run, recompute, stored_statistics

WRONG, RIGHT, MIXED = [0.0] * 4, [1.0] * 4, [1.0, 0.0, 1.0, 0.0]


def attempt(
    values: Sequence[float],
    *,
    kind: str = "none",
    level: int = 0,
    number: int = 0,
    merged: bool = False,
) -> Attempt:
    """One attempt's group, one value of `format` a rollout."""
    return Attempt(
        scaffold_kind=kind,
        scaffold_level=level,
        number=number,
        outcomes=outcomes(values),
        merged=merged,
    )


def report(batch: PromptBatch, *attempts: Sequence[Attempt]) -> Report:
    """One group a task of the batch, in order."""
    assert batch.lease is not None
    groups = [
        GroupReport(task_id=item.task.id, attempts=list(mine))
        for item, mine in zip(batch.items, attempts, strict=False)
    ]
    return Report(fence=batch.lease.fence, groups=groups)


async def test_invariant_7_unhinted_truth_hinted_success_moves_nothing(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Failed bare, solved with a hint: weights, mastery and streaks know the failure only."""
    run = await api.create_run(num_tasks=6, mode="curriculum_only")
    batch = await api.lease(run.id, 2)
    hinted = [
        attempt(WRONG),
        attempt(MIXED, kind="hint", level=1),
        attempt(RIGHT, kind="hint", level=2),
    ]
    only_hinted = [attempt(RIGHT, kind="hint", level=1)]
    receipt = await api.reported(batch, report(batch, hinted, only_hinted))
    assert [len(g.attempts) for g in receipt.groups] == [3, 1]
    assert {a.verdict for g in receipt.groups for a in g.attempts} == {"applied"}
    first, second = [await api.task(run.id, item.task.id) for item in batch.items]
    by_level = {(s.scaffold_kind, s.scaffold_level): s for s in first.statistics}
    assert by_level.keys() == {("none", 0), ("hint", 1), ("hint", 2)}
    assert (by_level["none", 0].component_means, by_level["none", 0].streak_hard) == (
        {"format": 0},
        1,
    )
    assert by_level["hint", 1].component_means == {"format": 0.5}
    assert by_level["hint", 2].full_visits == 1
    assert [(s.scaffold_kind, s.num_groups) for s in second.statistics] == [("hint", 1)]
    assert all(term.weight == 1 for term in second.weights), "never seen un-hinted: as unseen"
    page = (await api.get(f"/v1/runs/{run.id}/tasks", limit=6)).json()["items"]
    seen = [item["id"] for item in page if item["statistics"] is not None]
    assert seen == [batch.items[0].task.id]
    announced = await api.announced(run.id, 1)
    assert announced.num_groups == 4
    done = check_run(database_url, redis_server.url, run, boundaries=[4])
    view = await api.view(run.id)
    assert view.subtasks[0].mastery == 0.0
    assert view.subtasks[0].num_tasks_seen == 1
    assert done.state is not None
    check_laws(redis_server.url, run.id, num_tasks=6)


SCAFFOLDED = {
    "few_shot": [attempt(RIGHT, kind="few_shot", level=2)],
    "hints": [
        attempt([0.0], kind="hints", level=1),
        attempt([1.0], kind="hints", level=2),
        attempt([1.0, 0.0, 0.0, 0.0], kind="hints", level=2, number=1, merged=True),
    ],
    "prefix": [attempt(WRONG, kind="prefix", level=1), attempt(RIGHT, kind="prefix", level=2)],
    "reflect": [
        attempt(RIGHT, kind="reflect", level=1),
        attempt([*RIGHT, *RIGHT], kind="reflect", level=1, number=1, merged=True),
    ],
    "noise_docs": [attempt(RIGHT, kind="noise_docs", level=1)],
}
"""What a worker reports beside, or instead of, a bare group that failed."""


@pytest.mark.parametrize("kind", SCAFFOLDED)
async def test_invariant_7_unhinted_truth_of_every_kind(
    valkey_api: Api, database_url: str, valkey: RunningServer, kind: str
) -> None:
    """Level 0, weights and mastery are those of the bare failures alone, to the bit."""
    api, helped = valkey_api, SCAFFOLDED[kind]
    runs = [await api.create_run(num_tasks=6, mode="curriculum_only") for _ in range(2)]
    bare = [] if kind in ("few_shot", "noise_docs") else [attempt(WRONG)]
    kept = []
    for run, more in zip(runs, ([], helped), strict=True):
        batch = await api.lease(run.id, 2)
        attempts = [[*bare, *more] or [attempt(WRONG)], [attempt(MIXED)]]
        await api.reported(batch, report(batch, *attempts))
        kept.append(batch)
    assert [i.task.ordinal for i in kept[0].items] == [i.task.ordinal for i in kept[1].items]
    stored = [stored_statistics(database_url, run.id) for run in runs]
    levels = [
        {key: row for key, row in found.items() if key[1:] == ("none", 0)} for found in stored
    ]
    if bare:
        assert levels[0] == levels[1]
    first, second = kept[1].items[0].task.ordinal, kept[1].items[1].task.ordinal
    assert set(levels[1]) == {(n, "none", 0) for n in ([first, second] if bare else [second])}
    assert any(key[1] == kind for key in stored[1])
    counted = {(a.scaffold_kind, a.scaffold_level): a for a in helped if not a.merged}
    assert len(stored[1]) - len(levels[1]) == len(counted), "merged groups are counted nowhere"
    view = await api.task(runs[1].id, kept[1].items[0].task.id)
    if not bare:
        assert all(term.weight == 1 for term in view.weights), "never seen bare: as unseen"
    await api.announced(runs[1].id, 1)
    mastery = (await api.view(runs[1].id)).subtasks[0].mastery
    assert mastery == (0.25 if bare else 0.5)
    boundary = max(group.seq for group in applied_groups(database_url, runs[1].id))
    check_run(database_url, valkey.url, runs[1], boundaries=[boundary])


async def test_a_merged_group_is_gated_and_comes_last(api: Api, database_url: str) -> None:
    """It decides what is trained on; alone, or before another attempt, it is refused."""
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 2)
    merged = attempt(MIXED, kind="hints", level=2, number=1, merged=True)
    won = attempt([1.0], kind="hints", level=2)
    receipt = await api.reported(batch, report(batch, [attempt(WRONG), won, merged]))
    assert [a.verdict for a in receipt.groups[0].attempts] == ["applied", "applied", "merged"]
    assert receipt.groups[0].gate == "no_tokens", "admitted, but reported without trajectories"
    rows = query(database_url, "SELECT verdict, gate FROM ledger ORDER BY apply_seq")
    assert rows[-1] == ("merged", "no_tokens")
    assert batch.lease is not None
    for attempts in ([merged], [attempt(WRONG), merged, won]):
        body = {
            "fence": batch.lease.fence,
            "groups": [
                {
                    "task_id": batch.items[1].task.id,
                    "attempts": [one.model_dump(mode="json") for one in attempts],
                }
            ],
        }
        answer = await api.post(f"/v1/leases/{batch.lease.id}/groups", body)
        assert problem(answer, 422, "payload_invalid").errors[0].pointer == "/groups/0"


async def test_two_attempts_of_a_level_fold_one_after_the_other(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Two-phase budgets: the second group of a task is folded onto the first, in one report."""
    run = await api.create_run(num_tasks=6, mode="curriculum_only")
    batch = await api.lease(run.id, 3)
    two = [attempt(WRONG), attempt(MIXED, number=1)]
    three = [*two, attempt(RIGHT, number=2)]
    receipt = await api.reported(batch, report(batch, two, three, [attempt(MIXED)]))
    seqs = [a.apply_seq for g in receipt.groups for a in g.attempts]
    assert seqs == sorted(set(seqs), key=lambda seq: seq or 0)
    found = stored_statistics(database_url, run.id)
    first = found[(batch.items[0].task.ordinal, "none", 0)]
    assert (first["n"], first["m"], first["ema"]) == (2, [0.25, None, None], 0.25)
    assert found[(batch.items[1].task.ordinal, "none", 0)]["n"] == 3
    check_run(database_url, redis_server.url, run)


async def test_the_last_attempt_is_the_one_to_train_on(
    api: Api, redis_server: RunningServer
) -> None:
    """The gate looks at the last attempt; receipts name every one."""
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 2)
    sent = report(
        batch,
        [attempt(MIXED), attempt(RIGHT, kind="hint", level=1)],
        [attempt(WRONG), attempt(MIXED, kind="hint", level=1)],
    )
    receipt = await api.reported(batch, sent)
    assert [g.gate for g in receipt.groups] == ["zero_variance", "no_tokens"]
    check_laws(redis_server.url, run.id, num_tasks=6)


async def test_a_failed_attempt_beside_a_good_one(api: Api, database_url: str) -> None:
    run = await api.create_run(num_tasks=6, mode="curriculum_only")
    batch = await api.lease(run.id, 1)
    dead = [outcome({"format": 1.0}, finish=FinishReason.TIMEOUT)] * 4
    mine = [attempt(WRONG), Attempt(scaffold_kind="hint", scaffold_level=1, outcomes=dead)]
    receipt = await api.reported(batch, report(batch, mine))
    assert [a.verdict for a in receipt.groups[0].attempts] == ["applied", "invalid"]
    assert receipt.groups[0].gate == "not_applied"
    assert len(stored_statistics(database_url, run.id)) == 1
    rows = query(database_url, "SELECT kind, verdict FROM ledger ORDER BY apply_seq")
    assert rows == [("none", "applied"), ("hint", "invalid")]


async def test_attempts_have_names_of_their_own(api: Api, database_url: str) -> None:
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 1)
    twice = report(batch, [attempt(WRONG), attempt(MIXED)])
    found = problem(await api.report(batch, twice), 422, "payload_invalid")
    assert found.errors[0].pointer == "/groups/0/attempts"
    assert query(database_url, "SELECT count(*) FROM ledger") == [(0,)]
    assert recompute(run, []).statistics == {}


async def test_groups_of_unequal_size_and_shape(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Padding is not data: groups of 2, 5 and 3 rollouts, some components absent."""
    run = await api.create_run(num_tasks=9, mode="curriculum_only")
    batch = await api.lease(run.id, 3)
    assert batch.lease is not None
    shapes = [
        [outcome({"format": 1.0}), outcome({"format": 0.0, "tool_name": 1.0})],
        [outcome({"format": 1.0, "tool_name": x, "param_value": x / 2}) for x in (0, 1, 1, 0, 1)],
        [outcome({"unknown_skill": 1.0}, reward=r) for r in (0.5, 1.5, 2.5)],
    ]
    groups = [
        GroupReport(task_id=item.task.id, attempts=[Attempt(outcomes=rollouts)])
        for item, rollouts in zip(batch.items, shapes, strict=True)
    ]
    await api.reported(batch, Report(fence=batch.lease.fence, groups=groups))
    await api.announced(run.id, 1)
    check_run(database_url, redis_server.url, run, boundaries=[3])
