"""Another run from a checkpoint: it begins as the checkpoint does, and goes its own way."""

from __future__ import annotations

import uuid

import pytest

from etude_proto.v1 import CheckpointPage, DrawPage, Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query
from support.sampler_app_redis import check_laws
from support.time_travel import Traveller, last_seq, state_of
from support.waiting import wait_until
from support.workload import lines, report_of, task

_WITHOUT_RUN = "ordinal, kind, level, fence, s, f, ema, z_easy, z_hard, abs_a, reward_mean, "
_WITHOUT_RUN += "reward_var, full_visits, n, last_version, m, v"


def statistics(database_url: str, run_id: str) -> list[tuple[object, ...]]:
    """Every column but the run's id."""
    sql = f"SELECT {_WITHOUT_RUN} FROM task_statistics WHERE run_id = %s ORDER BY 1, 2, 3"
    return query(database_url, sql, run_id)


async def played(api: Api, database_url: str) -> Traveller:
    """Two versions, and groups that no version has folded."""
    run = await api.create_run(num_tasks=18, mode="curriculum_only")
    one = Traveller(api, run, database_url)
    for skill in (0.2, 0.8):
        await one.report(9, skill=skill)
        await one.announce()
    await one.report(5, skill=0.4)
    return one


async def play_on(api: Api, run: Run, database_url: str) -> list[object]:
    """The same calls for every run; what a seed and a state decide."""
    one = Traveller(api, run, database_url, boundaries=[0] * run.policy_version)
    trace: list[object] = []
    for turn in range(6):
        batch = await api.lease(run.id, 5)
        trace += [(i.task.ordinal, i.lane, i.weight, i.slot_probability) for i in batch.items]
        await api.reported(batch, report_of(batch, skill=0.3 + 0.1 * turn))
        if turn % 2:
            receipt = await one.announce()
            trace.append((receipt.num_groups, receipt.component_weights))
    return trace


async def test_forks_of_a_checkpoint_are_equal_until_they_are_treated_differently(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """From a checkpoint in mid-version: groups that were not folded yet count in the fork too."""
    one = await played(api, database_url)
    taken = await one.checkpoint(pinned=True)
    first = await one.fork("first", checkpoint_id=taken.id)
    before = statistics(database_url, one.run.id)
    await one.report(6)
    more = lines([task(number) for number in range(100, 103)])
    await api.upload(one.run.dataset_id, more)  # no run of before has these
    await one.announce()
    second = await one.fork("second", checkpoint_id=taken.id)
    other = await one.fork("other", checkpoint_id=taken.id, seed=99)
    for fork in (first, second, other):
        assert statistics(database_url, fork.id) == before
        assert fork.forked_from is not None
        assert (fork.forked_from.checkpoint_id, fork.policy_version) == (taken.id, 2)
        check_laws(redis_server.url, fork.id, num_tasks=18)
        (own,) = parse(await api.get(f"/v1/runs/{fork.id}/checkpoints"), CheckpointPage).items
        assert (own.id, own.sha256, own.pinned) == (taken.id, taken.sha256, True)
    traces = [await play_on(api, fork, database_url) for fork in (first, second, other)]
    assert traces[0] == traces[1]
    assert traces[0] != traces[2], "another seed draws otherwise"
    assert statistics(database_url, first.id) == statistics(database_url, second.id)
    receipts = [entry for entry in traces[0] if len(entry) == 2]  # type: ignore[arg-type]
    assert receipts[0][0] == 5 + 10, "the first fold saw the groups of before the fork"  # type: ignore[index]
    rows = "SELECT allocator_state, totals FROM runs WHERE id = %s"
    assert query(database_url, rows, first.id) == query(database_url, rows, second.id)
    checked = await Traveller(api, first, database_url).restore(taken.id)
    assert checked.policy_version == 2
    assert statistics(database_url, first.id) == before


async def test_a_fork_is_made_once_and_leaves_its_source_alone(api: Api, database_url: str) -> None:
    one = await played(api, database_url)
    state, seq = state_of(database_url, one.run.id), last_seq(database_url, one.run.id)
    path, body = f"/v1/runs/{one.run.id}/fork", {"name": "once"}
    first = await api.post(path, body, key="fork")
    assert query(database_url, "DELETE FROM idempotency RETURNING 1")
    again = await api.post(path, body, key="fork")
    assert (again.status_code, again.json()) == (201, first.json())
    runs = query(database_url, "SELECT count(*) FROM runs")
    assert runs == [(2,)]
    fork = parse(first, Run, 201)
    await play_on(api, fork, database_url)
    assert state_of(database_url, one.run.id) == state
    assert last_seq(database_url, one.run.id) == seq
    page = parse(await api.get(f"/v1/runs/{one.run.id}/checkpoints"), CheckpointPage)
    assert [item.label for item in page.items] == ["fork once"], "a checkpoint was taken for it"


async def test_a_fork_may_change_its_curriculum_but_not_its_sub_tasks(
    valkey_api: Api, database_url: str
) -> None:
    one = await played(valkey_api, database_url)
    limits = {**one.run.limits.model_dump(), "max_staleness": 1}
    fork = await one.fork("uniform", curriculum={"preset": "uniform"}, limits=limits)
    assert (fork.resolved.preset, fork.limits.max_staleness) == ("uniform", 1)
    assert fork.resolved.subtasks == one.run.resolved.subtasks
    batch = await valkey_api.lease(fork.id, 18)
    assert {item.lane for item in batch.items} <= set(fork.resolved.lanes)
    path = f"/v1/runs/{one.run.id}/fork"
    for curriculum in ({"preset": "none such"}, {"subtasks": ["format"]}):
        answer = await valkey_api.post(path, {"name": "bad", "curriculum": curriculum})
        problem(answer, 422, "payload_invalid")
    answer = await valkey_api.post(path, {"name": "bad", "checkpoint_id": "ckpt_none"})
    problem(answer, 404, "checkpoint_not_found")
    assert query(database_url, "SELECT count(*) FROM runs") == [(2,)]


async def test_a_discarded_future_can_be_forked(api: Api, database_url: str) -> None:
    one = await played(api, database_url)
    early = await one.checkpoint()
    await one.report(6)
    state = statistics(database_url, one.run.id)
    late = await one.checkpoint()
    await one.restore(early.id)
    fork = await one.fork("saved", checkpoint_id=late.id)
    assert statistics(database_url, fork.id) == state
    trace = await play_on(api, fork, database_url)
    receipts = [entry for entry in trace if len(entry) == 2]  # type: ignore[arg-type]
    assert receipts[0][0] == 5 + 6 + 10  # type: ignore[index]


async def test_draws_are_listed_in_order(valkey_api: Api, database_url: str) -> None:
    run = await valkey_api.create_run(num_tasks=12, mode="curriculum_only")
    wanted = []
    for _ in range(5):
        batch = await valkey_api.lease(run.id, 3)
        wanted.append([(i.task.ordinal, i.lane, i.entry, i.weight) for i in batch.items])
        await valkey_api.reported(batch)
    path = f"/v1/runs/{run.id}/draws"

    async def drained() -> bool:
        return len((await valkey_api.get(path)).json()["items"]) == len(wanted)

    await wait_until(drained, what="the decision log is drained")
    found: list[object] = []
    more: dict[str, str] = {}
    while len(found) < len(wanted):
        page = parse(await valkey_api.get(path, limit=2, **more), DrawPage)
        found += [[(t.ordinal, t.lane, t.entry, t.weight) for t in d.tasks] for d in page.items]
        assert (page.next_cursor is None) == (len(found) == len(wanted))
        more = {"cursor": page.next_cursor or ""}
    assert found == wanted
    bad = await valkey_api.get(f"/v1/runs/{run.id}/draws", cursor=uuid.uuid4().hex)
    problem(bad, 410, "cursor_expired")


@pytest.mark.parametrize("every", [2, 0])
async def test_checkpoints_come_by_themselves_and_go_by_the_limits(
    valkey_api: Api, database_url: str, every: int
) -> None:
    limits = {"checkpoint_every_versions": every, "checkpoint_keep_last": 2}
    if every:
        limits["checkpoint_keep_every"] = 6
    run = await valkey_api.create_run(num_tasks=6, mode="curriculum_only", limits=limits)
    one = Traveller(valkey_api, run, database_url)
    marked = []
    for version in range(1, 14):
        pin = {"label": "mine", "pinned": True} if version == 3 else None
        marked.append((await one.announce(checkpoint=pin)).checkpoint_id)
    page = parse(await valkey_api.get(f"/v1/runs/{run.id}/checkpoints"), CheckpointPage)
    kept = [(item.policy_version, item.label) for item in page.items]
    wanted: list[tuple[int, str | None]] = [(3, "mine")]
    if every:
        wanted += [(6, None), (10, None), (12, None)]
    assert kept == wanted
    asked = [version for version, name in enumerate(marked, 1) if name is not None]
    assert asked == ([2, 3, 4, 6, 8, 10, 12] if every else [3])
    assert {item.id for item in page.items} <= set(marked)


async def test_limits_that_keep_nothing_are_refused(valkey_api: Api) -> None:
    dataset = await valkey_api.create_dataset()
    limits = {"checkpoint_every_versions": 4, "checkpoint_keep_every": 6}
    body = {"name": "no", "dataset_id": dataset, "limits": limits}
    found = problem(await valkey_api.post("/v1/runs", body), 422, "payload_invalid")
    assert "checkpoint_keep_every" in found.detail
