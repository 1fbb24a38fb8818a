"""Both arms over HTTP: sums kept per version add up to what the ledger holds, also after a fork."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.v1 import ArmFigures, ArmsView, CurriculumView, HistoryPage, Run
from etude_sampler.statistics.arms import ArmSums, GroupFacts, sum_groups
from support.sampler_app import Api, parse, query
from support.workload import group, outcome, report_of, rolled_out

LEDGER = """
SELECT lane, num_valid, num_success, reward_mean, reward_var, num_tokens, policy_version
FROM ledger WHERE run_id = %s AND verdict = 'applied' AND kind = 'none' AND level = 0
ORDER BY apply_seq
"""


async def play(api: Api, run_id: str, *, version: int, num_tasks: int = 6) -> None:
    """Report a batch and announce the version after it."""
    batch = await api.lease(run_id, num_tasks)
    await api.reported(batch, report_of(batch, skill=0.6))
    await api.announced(run_id, version)


def sums_of(database_url: str, run_id: str, *, after: int = -1) -> dict[str, ArmSums]:
    """The ledger's rows of versions above `after`, summed anew."""
    facts: dict[str, list[GroupFacts]] = {"control": [], "curriculum": []}
    for lane, n, m, mean, variance, tokens, version in query(database_url, LEDGER, run_id):
        if int(str(version)) > after:
            arm = "control" if lane == 0 else "curriculum"
            reward = float(str(mean)) * int(str(n))
            informative = float(str(variance)) > 1e-8
            facts[arm].append(
                GroupFacts(int(str(n)), int(str(m)), reward, int(str(tokens)), informative)
            )
    return {arm: sum_groups(found) for arm, found in facts.items()}


def check(view: ArmsView | None, sums: dict[str, ArmSums]) -> None:
    """Every figure is that of the sums."""
    assert view is not None
    figures: ArmFigures
    for name in ("control", "curriculum"):
        figures, want = getattr(view, name), sums[name]
        found = list(figures.moments.model_dump().values())
        assert found == pytest.approx(list(want.to_json().values()))
        assert figures.num_groups == want.num_groups
        for part in ("informative_share", "success_rate", "mean_reward", "reward_per_1k_tokens"):
            shown, own = getattr(figures, part), getattr(want, part)
            values = np.array([shown.mean, shown.low, shown.high], dtype=float)
            assert values == pytest.approx(
                np.array([own.mean, own.low, own.high], dtype=float), nan_ok=True
            )


async def view_of(api: Api, run_id: str, **more: int) -> CurriculumView:
    return parse(await api.get(f"/v1/runs/{run_id}/curriculum", **more), CurriculumView)


async def test_both_arms_are_those_of_the_ledger(valkey_api: Api, database_url: str) -> None:
    api = valkey_api
    run = await api.create_run(
        num_tasks=24, mode="curriculum_only", curriculum={"preset": "dscl", "control_share": 0.4}
    )
    empty = await view_of(api, run.id)
    assert empty.arms_overall is not None
    assert empty.arms_overall.control.informative_share.mean is None
    for version in range(1, 5):
        await play(api, run.id, version=version)
    batch = await api.lease(run.id, 6)
    await api.reported(batch, report_of(batch, skill=0.6))  # not folded yet, and counted
    view = await view_of(api, run.id)
    assert view.arms_overall is not None
    assert min(view.arms_overall.control.num_groups, view.arms_overall.curriculum.num_groups) >= 8
    check(view.arms_overall, sums_of(database_url, run.id))
    assert view.arms_overall.num_versions == 4
    recent = (await view_of(api, run.id, window=2)).arms_recent
    check(recent, sums_of(database_url, run.id, after=1))
    assert recent is not None
    assert recent.num_versions == 2
    gap = view.arms_overall.gap.success_rate
    arms = (view.arms_overall.curriculum.success_rate, view.arms_overall.control.success_rate)
    assert arms[0].mean is not None
    assert arms[1].mean is not None
    assert gap.mean == pytest.approx(arms[0].mean - arms[1].mean)
    page = parse(await api.get(f"/v1/runs/{run.id}/history"), HistoryPage)
    parts = [point.arms for point in page.items]
    total = ArmSums()
    for part in parts:
        assert part is not None
        assert part.num_versions == 1
        total += ArmSums.from_json(part.control.moments.model_dump())
    groups = query(database_url, LEDGER, run.id)[:24]
    assert total.num_groups == sum(row[0] == 0 for row in groups)


async def test_help_moves_no_arm(valkey_api: Api, database_url: str) -> None:
    """A success with a hint says nothing of how a task is drawn (invariant 7)."""
    api = valkey_api
    run = await api.create_run(mode="curriculum_only")
    batch = await api.lease(run.id, 1)
    item = batch.items[0]
    assert batch.lease is not None
    told = [outcome(dict.fromkeys(item.task.subtasks, 1.0)) for _ in range(4)]
    bare = rolled_out(item.task.id, item.task.subtasks, version=0, skill=0.0)
    hinted = group(item.task.id, told, scaffold_kind="hint", scaffold_level=1).attempts[0]
    plain = group(item.task.id, bare)
    both = plain.model_copy(update={"attempts": [*plain.attempts, hinted]})
    await api.reported(batch, report_of(batch).model_copy(update={"groups": [both]}))
    await api.announced(run.id, 1)
    view = (await view_of(api, run.id)).arms_overall
    check(view, sums_of(database_url, run.id))
    assert view is not None
    assert view.control.num_groups + view.curriculum.num_groups == 1


async def test_versions_of_an_older_release_have_no_arms(
    valkey_api: Api, database_url: str
) -> None:
    """Its totals are kept, and only what came after is measured."""
    api = valkey_api
    run = await api.create_run(num_tasks=24, mode="curriculum_only")
    await play(api, run.id, version=1)
    query(
        database_url,
        "WITH one AS (UPDATE policy_versions SET summary = summary - 'arms' WHERE run_id = %s "
        "RETURNING 1) UPDATE runs SET totals = jsonb_build_object('control', "
        '\'{"groups": 6, "informative": 3, "reward": 1.5, "tokens": 90}\'::jsonb) '
        "WHERE id = %s RETURNING 1",
        run.id,
        run.id,
    )
    await play(api, run.id, version=2)
    view = await view_of(api, run.id)
    check(view.arms_overall, sums_of(database_url, run.id, after=0))
    check(view.arms_recent, sums_of(database_url, run.id, after=0))
    assert sum(arm.num_groups for arm in view.arms) == 12
    page = parse(await api.get(f"/v1/runs/{run.id}/history"), HistoryPage)
    assert [point.arms is None for point in page.items] == [True, False]


async def test_a_fork_takes_its_arms_along(valkey_api: Api, database_url: str) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=24, mode="curriculum_only")
    await play(api, run.id, version=1)
    made = await api.post(f"/v1/runs/{run.id}/checkpoints", {"label": "here"})
    assert made.status_code in (200, 201), made.text
    body = {"name": "fork", "checkpoint_id": made.json()["id"]}
    fork = parse(await api.post(f"/v1/runs/{run.id}/fork", body), Run, 201)
    await api.loaded(fork.id)
    before = (await view_of(api, run.id)).arms_overall
    assert (await view_of(api, fork.id)).arms_overall == before
    check(before, sums_of(database_url, run.id))
