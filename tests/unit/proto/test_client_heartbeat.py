"""Heartbeats: the lease lives as long as the block, and its loss ends the block."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from etude_client import AsyncEtudeClient, EtudeClient, LeaseNotFound, LeaseSuperseded
from etude_proto.v1 import Lease, ProblemCode, PromptBatchRequest
from support.contract import example
from support.scripted_server import Drop, Hold, Reply, ScriptedServer, Seen, problem
from support.waiting import wait_for, wait_until

LEASE = Lease(id="lease_1", run_id="run_1", fence=17, deadline_ms=1000, ttl_s=60.0)
EXTEND = "/v1/leases/lease_1/extend"
SUPERSEDED = problem(ProblemCode.LEASE_SUPERSEDED, 409)
UNAVAILABLE = problem(ProblemCode.DEPENDENCY_UNAVAILABLE, 503, retry_after="0")
EVERY = 0.03


def extended(seen: Seen) -> Reply:
    """What the sampler answers to a heartbeat."""
    assert json.loads(seen.body) == {"fence": 17, "ttl_s": 60.0}
    return Reply(200, LEASE.model_copy(update={"deadline_ms": 2000}).model_dump_json().encode())


async def _beats(server: ScriptedServer, count: int) -> None:
    async def enough() -> bool:
        return len(server.seen) >= count

    await wait_until(enough, what=f"{count} heartbeats")


async def test_beats_until_the_block_ends(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(EXTEND, extended)
    async with client.heartbeat(LEASE, every=EVERY) as beat:
        await _beats(server, 3)
        beat.check()
    assert beat.lease.deadline_ms == 2000
    assert {request.path for request in server.seen} == {EXTEND}
    assert len(set(server.keys())) == len(server.seen)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("heartbeat")] == []


async def test_training_batches_have_their_own_call(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    path = "/v1/training-batches/lease_1/extend"
    server.script(path, extended)
    async with client.heartbeat(LEASE, every=EVERY, kind="training"):
        await _beats(server, 1)
    assert server.seen[0].path == path


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (SUPERSEDED, LeaseSuperseded),
        (problem(ProblemCode.LEASE_NOT_FOUND, 404), LeaseNotFound),
    ],
)
async def test_a_lost_lease_ends_the_block(
    server: ScriptedServer, client: AsyncEtudeClient, refusal: Reply, kind: type[Exception]
) -> None:
    server.script(EXTEND, extended, refusal)
    with pytest.raises(kind):
        async with client.heartbeat(LEASE, every=EVERY):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_lost_lease_may_let_the_block_finish(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(EXTEND, SUPERSEDED)

    async def work() -> None:
        async with client.heartbeat(LEASE, every=EVERY, cancel=False) as beat:

            async def lost() -> bool:
                return beat.error is not None

            await wait_until(lost, what="the lease is lost")
            with pytest.raises(LeaseSuperseded):
                beat.check()
            finished.append(True)

    finished: list[bool] = []
    with pytest.raises(LeaseSuperseded):
        await work()
    assert finished == [True]
    assert len(server.seen) == 1


async def test_an_unreachable_server_does_not_end_the_block(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(EXTEND, Drop(), UNAVAILABLE, Drop(), UNAVAILABLE, extended)
    async with client.heartbeat(LEASE, every=EVERY) as beat:
        await _beats(server, 5)

        async def alive() -> bool:
            return beat.lease.deadline_ms == 2000

        await wait_until(alive, what="a beat succeeds")


async def test_the_blocks_own_exception_wins(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(EXTEND, SUPERSEDED)

    async def work() -> None:
        async with client.heartbeat(LEASE, every=EVERY, cancel=False):
            await _beats(server, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()


async def test_cancelling_from_outside_stays_a_cancellation(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(EXTEND, extended)

    async def work() -> None:
        async with client.heartbeat(LEASE, every=EVERY):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await _beats(server, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_cancellations_at_once_stay_a_cancellation(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(EXTEND, SUPERSEDED)

    async def work() -> None:
        async with client.heartbeat(LEASE, every=EVERY):
            try:
                await asyncio.Event().wait()
            finally:
                outer.cancel()  # a shutdown, while the block ends for the lost lease

    outer = asyncio.create_task(work())
    await asyncio.wait([outer])
    assert outer.cancelled()


async def test_long_polls_do_not_starve_heartbeats(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script("/v1/runs/run_1/prompt-batches", Hold())
    server.script(EXTEND, extended)
    request = PromptBatchRequest(num_tasks=1, worker="w", wait_s=30.0)
    polls = [asyncio.create_task(client.lease_prompt_batch("run_1", request)) for _ in range(64)]

    async def polling() -> bool:
        return len(server.seen) == 64

    await wait_until(polling, what="the pool is used up")
    async with client.heartbeat(LEASE, every=EVERY):
        await _beats(server, 67)
    connections = {request.connection for request in server.seen if request.path == EXTEND}
    assert len(connections) == 1
    for poll in polls:
        poll.cancel()
    await asyncio.wait(polls)


def test_the_sync_client_beats_from_a_thread(
    server: ScriptedServer, sync_client: EtudeClient
) -> None:
    server.script(EXTEND, extended)
    with sync_client.heartbeat(LEASE, every=EVERY) as beat:
        wait_for(lambda: len(server.seen) >= 3, what="three heartbeats")
        beat.check()
    assert beat.lease.deadline_ms == 2000
    assert [t for t in threading.enumerate() if t.name.startswith("heartbeat")] == []


def test_the_sync_client_tells_at_check_and_at_the_end(
    server: ScriptedServer, sync_client: EtudeClient
) -> None:
    server.script(EXTEND, extended, SUPERSEDED)

    def work() -> None:
        with sync_client.heartbeat(LEASE, every=EVERY) as beat:
            wait_for(lambda: beat.error is not None, what="the lease is lost")
            with pytest.raises(LeaseSuperseded):
                beat.check()

    with pytest.raises(LeaseSuperseded):
        work()


def test_the_default_beat_is_a_third_of_the_ttl() -> None:
    lease = Lease.model_validate_json(example("Lease"))
    with EtudeClient("http://127.0.0.1:1") as client:
        assert client.heartbeat(lease)._every_s == lease.ttl_s / 3
