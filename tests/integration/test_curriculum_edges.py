"""`Curriculum` where trainers are careless: repeated, cancelled, interrupted, forked, left open."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import Queue

import pytest

from etude_client import AsyncCurriculum, Curriculum, EtudeClient
from etude_client.curriculum import Batch, DeliveryFailed, NothingToPractise, drawing
from etude_proto.v1 import ExtendRequest
from etude_sampler.embedded import RunningServer
from support.live_sampler import gated, live_sampler
from support.servers import Servers
from support.waiting import wait_for

TASKS = [
    {"messages": [{"role": "user", "content": f"{number}?"}], "subtasks": ["answer"]}
    for number in range(24)
]


@pytest.fixture(scope="module")
def url(servers: Servers, valkey: RunningServer) -> Iterator[str]:
    """One sampler for all of these tests; each has a run of its own."""
    with servers.database() as database, live_sampler(database, valkey.url) as started:
        yield started


@contextmanager
def fresh(url: str, **options: object) -> Iterator[Curriculum]:
    """A curriculum over a new run."""
    name = uuid.uuid4().hex
    with Curriculum.create(name, TASKS, url, group_size=4, **options) as made:  # type: ignore[arg-type]
        yield made


def scores(batch: Batch) -> dict[str, list[float]]:
    """Groups of four rollouts, one of them right."""
    return {item.task_id: [1.0, 0.0, 0.0, 0.0] for item in batch}


def few(groups: Mapping[str, list[float]], count: int) -> dict[str, list[float]]:
    """The first groups."""
    return dict(list(groups.items())[:count])


def num_leased(curriculum: Curriculum) -> int:
    """Tasks that are leased, by whomever."""
    return curriculum.view().counts.num_leased


def test_what_was_reported_before_counts_as_it_was(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fresh(url) as curriculum:
        batch = curriculum.next_batch(4)
        assert curriculum.report(batch, few(scores(batch), 2)).receipts(30)[0].num_remaining == 2
        assert curriculum.report(batch, {item.task_id: [] for item in batch}).receipts() == []
        (receipt,) = curriculum.report(batch, scores(batch)).receipts(30)
        assert [group.task_id for group in receipt.groups] == [i.task_id for i in batch][2:]
        assert "2 of 4 groups of a report were reported before" in caplog.text
        again = curriculum.report(batch, scores(batch))
        assert again.receipts(30) == []
        assert again.is_late
        assert curriculum.view().num_groups_applied == 4

        half = curriculum.next_batch(2)
        for _ in range(2):
            assert curriculum.report(half, few(scores(half), 1)).receipts(30) is not None
        curriculum.release(half)  # the other task is still this process's to give back
        assert num_leased(curriculum) == 0
        assert curriculum.view().num_groups_applied == 5

        back = curriculum.next_batch(4)
        curriculum.release(back)
        assert curriculum.report(back, scores(back)).receipts(30) == []
        assert curriculum.view().num_groups_applied == 5

        # A loss that is not finite is the trainer's matter, not the end of the curriculum.
        assert curriculum.step(metrics={"loss": float("nan"), "reward": 0.5}) == 1
        assert "metrics that are not finite are left out: loss" in caplog.text
        with pytest.raises(ValueError, match=r"at most 64"):
            curriculum.step(metrics={f"m{number}": 0.0 for number in range(65)})
        assert curriculum.step() == 2
        assert curriculum.flush(30)
        assert curriculum.view().policy_version == 2


def test_what_a_block_leaves_is_given_back(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with fresh(url) as curriculum:
        with curriculum.lease(5) as batch:
            curriculum.report(batch, few(scores(batch), 2))
        assert "3 leased tasks were not reported: given back" in caplog.text
        assert curriculum.flush(30)
        assert num_leased(curriculum) == 0
        with pytest.raises(ZeroDivisionError), curriculum.lease(5) as batch:
            curriculum.report(batch, {batch.items[0].task_id: [1 / 0]})
        assert curriculum.flush(30)
        assert num_leased(curriculum) == 0
        caplog.clear()
        with curriculum.lease(5) as batch:
            curriculum.report(batch, scores(batch))
        assert curriculum.flush(30)
        assert caplog.text == ""
        assert curriculum.view().num_groups_applied == 7
        assert curriculum.status.num_late == 0

        # More than there is: what was leased on the way is not kept.
        held = curriculum.next_batch(4)
        with pytest.raises(NothingToPractise, match=r"\(24 tasks that this process drew are neith"):
            curriculum.next_batch(24, whole=True, timeout_s=0.3)
        assert num_leased(curriculum) == 4
        # A refusal reaches whoever waits, and the end.
        delivery = curriculum.report(held, {held.items[0].task_id: [{"politeness": 1.0}]})
        with pytest.raises(DeliveryFailed, match="politeness"):
            delivery.receipts(30)
        # Deliveries have stopped; leases are given back all the same.
        run = curriculum.run.id
    assert "1 reports and announcements for run_" in caplog.text
    with EtudeClient(url) as client:
        assert client.get_curriculum(run).counts.num_leased == 0


ENDS = """
import sys
from etude_client import Curriculum

curriculum = Curriculum(sys.argv[1], sys.argv[2])
batch, _ = curriculum.next_batch(4), curriculum.next_batch(2)
curriculum.report(batch, {item.task_id: [1.0, 0.0] for item in batch})
curriculum.step()
raise SystemExit("the script fails")
"""


def test_an_interpreter_that_ends_delivers(url: str) -> None:
    with fresh(url) as curriculum:
        script = subprocess.run(
            [sys.executable, "-c", ENDS, curriculum.run.id, url], capture_output=True, text=True
        )
        assert script.stderr == "the script fails\n"
        view = curriculum.view()
        assert (view.policy_version, view.num_groups_applied, view.counts.num_leased) == (1, 4, 0)


def draw(curriculum: Curriculum, drawn: Queue[Batch]) -> None:
    """A data-loader worker."""
    drawn.put(curriculum.next_batch(3))


def test_a_worker_process_hands_its_leases_over(url: str) -> None:
    fork = multiprocessing.get_context("fork")
    with fresh(url, ttl_s=0.5) as curriculum:
        first = curriculum.next_batch(2)  # threads and locks are there when it forks
        drawn: Queue[Batch] = fork.Queue()
        worker = fork.Process(target=draw, args=(curriculum, drawn))
        worker.start()
        batch = drawn.get(timeout=60)
        worker.join(60)
        assert worker.exitcode == 0
        (lease,) = batch.leases
        with EtudeClient(url) as client:
            newest = client.extend_lease(lease.id, ExtendRequest(fence=lease.fence))
        assert newest.deadline_ms - time.time() * 1000 > 300_000
        with curriculum.hold(batch):
            curriculum.report(batch, scores(batch))
        curriculum.report(first, scores(first))
        assert curriculum.flush(30)
        assert curriculum.status.num_late == 0
        assert curriculum.view().num_groups_applied == 5


async def test_a_cancelled_call_keeps_nothing(url: str) -> None:
    with fresh(url) as sync:
        ours, theirs = AsyncCurriculum(sync), await AsyncCurriculum.open(sync.run.id, url)
        async with theirs:
            held = await theirs.next_batch(22, whole=True)
            waiting = asyncio.create_task(ours.next_batch(24, whole=True))
            keeper = sync._here().keeper
            await asyncio.to_thread(
                wait_for, lambda: bool(keeper.open()), what="the rest is leased"
            )
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(
                wait_for, lambda: num_leased(sync) == 22, what="what it had is given back"
            )
            async with theirs.hold(held):
                pass  # it was not practised
            assert await theirs.flush(30)
            assert num_leased(sync) == 0
            # A running loop does not mind the synchronous twin either.
            sync.report(batch := sync.next_batch(2), scores(batch))


def test_a_cancelled_program_ends(url: str) -> None:
    async def impatient() -> None:
        await asyncio.wait_for(AsyncCurriculum(other).next_batch(1), 0.2)

    with fresh(url) as sync, Curriculum(sync.run.id, url) as other:
        batch = sync.next_batch(24, whole=True)
        with pytest.raises(TimeoutError):
            asyncio.run(impatient())  # its loop is closed while the call still waits
        sync.release(batch)
        wait_for(lambda: num_leased(sync) == 0, what="nobody drew for a caller that is gone")


def test_threads_share_one_set_of_connections(url: str) -> None:
    with fresh(url) as curriculum, ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: curriculum.next_batch(2), range(8)))
        assert len({item.task_id for batch in batches for item in batch}) == 16
        deliveries = list(pool.map(lambda one: curriculum.report(one, scores(one)), batches))
        versions = list(pool.map(lambda _: curriculum.step(), range(8)))
        assert sorted(versions) == list(range(1, 9))
        assert sum(len(one.receipts(30)) for one in deliveries) == 8
        assert curriculum.flush(30)
        assert curriculum.status.num_delivered == 16
        assert curriculum.view().policy_version == 8
        assert num_leased(curriculum) == 0


def test_a_sampler_that_hangs_is_away_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "LEAST_CALL_S", 0.2)
    monkeypatch.setattr(drawing, "POLL_S", 0.1)
    with gated(url) as (way_url, way):
        name = uuid.uuid4().hex
        options = {"group_size": 4, "on_outage": "uniform", "patience_s": 0.3}
        with Curriculum.create(name, TASKS, way_url, **options) as curriculum:  # type: ignore[arg-type]
            way.hold(r"POST /v1/runs/[^/]+/prompt-batches")
            begun_s = time.monotonic()
            batch = curriculum.next_batch(4, whole=True)
            assert {item.origin for item in batch} == {"uniform"}
            assert time.monotonic() - begun_s < 10  # and not the 30 s of a call, twice
            assert curriculum.status.num_outages == 1
            way.open()
            wait_for(
                lambda: curriculum.next_batch(1).items[0].origin == "curriculum",
                what="the sampler is asked again",
            )


def test_a_name_may_look_like_an_id(url: str) -> None:
    made = [Curriculum.create("run_1", TASKS, url, group_size=4) for _ in range(2)]
    made.append(Curriculum("run_1", url))
    assert {one.run.id for one in made} == {made[0].run.id}


def test_a_checkpoint_waits_for_a_sampler_that_is_away(url: str) -> None:
    with (
        gated(url) as (slow, way),
        ThreadPoolExecutor(1) as pool,
        fresh(slow, patience_s=0.2) as curriculum,
    ):
        way.is_away = True
        saved = pool.submit(curriculum.state_dict)
        wait_for(lambda: curriculum.status.away_s > 0.2, what="it is said to be away")
        assert not saved.done()
        way.is_away = False
        assert saved.result(timeout=60)["checkpoint_id"]


def test_who_creates_at_once_gets_one_run(url: str) -> None:
    def create(where: str, tasks: list[dict[str, object]]) -> Curriculum:
        return Curriculum.create("one", tasks, where, group_size=4)

    def delete(run_id: str) -> None:
        with EtudeClient(url) as client:
            client.pause_run(run_id)
            client.delete_run(run_id)

    with gated(url) as (slow, way), ThreadPoolExecutor(1) as pool:
        way.hold("POST /v1/runs$")
        late = pool.submit(create, slow, TASKS)
        way.wait_held()  # it has seen that there is no such run
        with create(url, TASKS) as first:
            way.open()
            with late.result(timeout=30) as second:
                assert second.run.id == first.run.id
    delete(first.run.id)
    with create(url, TASKS) as again:
        assert again.run.id != first.run.id
        assert again.next_batch(2).items
    with pytest.raises(ValueError, match="with other tasks than these rows make, such as task_"):
        create(url, [{"prompt": f"What is {number}?"} for number in range(24)])
    delete(again.run.id)
    with pytest.raises(ValueError, match=r"holds 24 tasks, and these rows make 23: .* delete one`"):
        create(url, TASKS[1:])
