"""Policy versions: folded once each, by the pure functions, and announced with their weights."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from etude_proto.v1 import AckReceipt, HistoryPage, Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws
from support.workload import report_of
from support.workload_model import check_run


class Driver:
    """Plays a curriculum-only run and remembers where its versions begin."""

    def __init__(self, api: Api, run: Run, database_url: str) -> None:
        self.api, self.run, self.database_url = api, run, database_url
        self.boundaries: list[int] = []

    async def step(self, num_tasks: int, *, skill: float = 0.5, api: Api | None = None) -> None:
        """Lease and report one batch."""
        batch = await (api or self.api).lease(self.run.id, num_tasks)
        await (api or self.api).reported(batch, report_of(batch, skill=skill))

    async def announce(self, api: Api | None = None) -> AckReceipt:
        """The next version."""
        sql = "SELECT coalesce(max(apply_seq), 0) FROM ledger"
        ((last,),) = query(self.database_url, sql)
        self.boundaries.append(int(str(last)))
        return await (api or self.api).announced(self.run.id, len(self.boundaries))


@pytest.fixture
async def driver(api: Api, database_url: str) -> Driver:
    """A run of 12 tasks, three sub-tasks."""
    run = await api.create_run(num_tasks=12, mode="curriculum_only")
    return Driver(api, run, database_url)


async def test_mastery_and_weights_follow_the_pure_functions(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await pair[0].create_run(num_tasks=18, mode="curriculum_only")
    driver = Driver(pair[0], run, database_url)
    for version in range(6):
        for turn in range(3):
            await driver.step(5, skill=0.2 + 0.12 * version, api=pair[turn % 2])
        receipt = await driver.announce(pair[version % 2])
        assert (receipt.policy_version, receipt.num_groups) == (version + 1, 15 + (version > 0))
        done = check_run(database_url, redis_server.url, run, boundaries=driver.boundaries)
        assert done.state is not None
        assert list(receipt.component_weights.values()) == list(done.state.w_K)
        view = await pair[(version + 1) % 2].view(run.id)
        assert [one.mastery for one in view.subtasks] == [
            None if m != m else m for m in done.state.M_K
        ]
        batch = await pair[version % 2].lease(run.id, 1)
        assert batch.policy_version == version + 1
        assert batch.component_weights == receipt.component_weights
        await pair[0].reported(batch)
    assert len(set(driver.boundaries)) == 6
    assert view.subtasks[0].component_weight != 1.0, "the weights have moved"
    page = parse(await pair[0].get(f"/v1/runs/{run.id}/history"), HistoryPage)
    assert [point.policy_version for point in page.items] == [1, 2, 3, 4, 5, 6]
    assert page.items[-1].mastery == {one.name: one.mastery for one in view.subtasks}
    check_laws(redis_server.url, run.id, num_tasks=18)


async def test_weights_age_with_the_versions(driver: Driver, redis_server: RunningServer) -> None:
    """Staleness rises at ages 4, 7, 11 and 14: the announcement returns with all weights moved."""
    await driver.step(12)
    changed = []
    before = check_laws(redis_server.url, driver.run.id, num_tasks=12).packed("totals")
    for version in range(1, 17):
        await driver.announce()
        boundaries = driver.boundaries
        check_run(driver.database_url, redis_server.url, driver.run, boundaries=boundaries)
        after = check_laws(redis_server.url, driver.run.id, num_tasks=12).packed("totals")
        if after != before:
            changed.append(version)
        before = after
    assert changed == [4, 7, 11, 14]


async def test_a_task_given_back_late_has_its_weight_of_today(
    driver: Driver, redis_server: RunningServer
) -> None:
    """Leased while its weight aged, then released: it enters with the weight of the version."""
    await driver.step(12)
    for _ in range(3):
        await driver.announce()
    batch = await driver.api.lease(driver.run.id, 5)
    for _ in range(2):
        await driver.announce()
    assert batch.lease is not None
    body = {"fence": batch.lease.fence}
    answer = await driver.api.post(f"/v1/leases/{batch.lease.id}/release", body)
    assert answer.status_code == 200
    check_run(driver.database_url, redis_server.url, driver.run, boundaries=driver.boundaries)


async def test_an_announcement_counts_once(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await pair[0].create_run(mode="curriculum_only")
    driver = Driver(pair[0], run, database_url)
    await driver.step(6)
    body = {"policy_version": 1, "weights_uri": "file:///w1", "metrics": {"loss": 0.5}}
    path = f"/v1/runs/{run.id}/policy-versions"
    driver.boundaries.append(6)
    first = await pair[0].post(path, body, key="v1")
    again = await pair[1].post(path, body, key="v1")
    assert (again.status_code, again.content) == (200, first.content)
    other = {**body, "weights_uri": "file:///other"}
    problem(await pair[1].post(path, other, key="v1"), 422, "idempotency_key_reused")
    for version in (0, 1, 3):
        answer = await pair[1].post(path, {"policy_version": version})
        found = problem(answer, 409, "version_conflict")
        assert "2" in found.detail
    check_run(database_url, redis_server.url, run, boundaries=driver.boundaries)
    await driver.step(6)
    late = await pair[1].post(path, body, key="v1")
    assert late.content == first.content, "a retry after the next reports folds nothing"
    check_run(database_url, redis_server.url, run, boundaries=driver.boundaries)


async def test_rivals_announce_a_version_once(pair: tuple[Api, Api], database_url: str) -> None:
    run = await pair[0].create_run(mode="curriculum_only")
    await Driver(pair[0], run, database_url).step(6)
    path = f"/v1/runs/{run.id}/policy-versions"
    answers = await asyncio.gather(
        *(pair[i % 2].post(path, {"policy_version": 1}, key=uuid.uuid4().hex) for i in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert query(database_url, "SELECT version FROM policy_versions") == [(1,)]
    page = parse(await pair[0].get(f"/v1/runs/{run.id}/history"), HistoryPage)
    assert [point.num_groups for point in page.items] == [6]


async def test_reports_and_announcements_at_once_lose_no_group(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """Folds take complete ranges of the apply sequence, whatever commits meanwhile."""
    run = await pair[0].create_run(num_tasks=60, limits={"cap_groups": 60}, mode="curriculum_only")
    driver = Driver(pair[0], run, database_url)
    num_versions = 8

    async def work(number: int) -> None:
        for turn in range(6):
            await driver.step(3, api=pair[(number + turn) % 2])

    async def announce() -> int:
        return sum(
            [
                (await pair[version % 2].announced(run.id, version)).num_groups
                for version in range(1, num_versions + 1)
            ]
        )

    *_, folded = await asyncio.gather(*(work(number) for number in range(5)), announce())
    assert isinstance(folded, int)
    last = await pair[0].announced(run.id, num_versions + 1)
    assert folded + last.num_groups == 5 * 6 * 3
    view = await pair[1].view(run.id)
    assert view.num_groups_applied == 90
    check_laws(redis_server.url, run.id, num_tasks=60)


async def test_each_mode_announces_in_its_own_way(valkey_api: Api) -> None:
    api = valkey_api
    training, own = await api.create_run(), await api.create_run(mode="curriculum_only")
    answer = await api.post(f"/v1/runs/{training.id}/policy-versions", {"policy_version": 1})
    problem(answer, 409, "illegal_transition")
    problem(await api.try_train(own.id), 409, "illegal_transition")


async def test_a_new_replica_goes_on_where_the_others_were(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await api.create_run(mode="curriculum_only")
    driver = Driver(api, run, database_url)
    await driver.step(6)
    await driver.announce()
    async with sampler_app(database_url, redis_server.url) as fresh:
        await driver.step(6, api=fresh)
        await driver.announce(fresh)
        assert (await fresh.view(run.id)).policy_version == 2
        check_run(database_url, redis_server.url, run, boundaries=driver.boundaries)
