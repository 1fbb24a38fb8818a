"""`kill -9` of real replicas at the worst moments: nothing acknowledged is lost; invariant 6."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import httpx

from etude_client import AsyncEtudeClient, LeaseSuperseded
from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import PromptBatchRequest, Receipt
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, query, sampler_app
from support.sampler_app_proxy import FaultProxy, digest, redis_proxy
from support.sampler_app_redis import check_laws
from support.sampler_app_replica import Replica, free_port, replica
from support.waiting import wait_until
from support.workload import cargo, report_of
from support.workload_model import check_run


async def dies_at(
    proxy: FaultProxy, script: str, victim: Replica, call: Coroutine[None, None, httpx.Response]
) -> None:
    """Hold the first request of a script, kill the replica that sent it, see its caller fail."""
    proxy.hold(digest(script))
    waiting = asyncio.create_task(call)
    await asyncio.wait_for(proxy.struck.wait(), 20.0)
    victim.kill()
    failed = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert isinstance(failed, httpx.TransportError)


async def test_invariant_4_ledger_first_a_death_between_commit_and_settle(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    """Another replica completes the report on a retry, trajectories included."""
    async with (
        sampler_app(database_url, valkey.url) as survivor,
        redis_proxy(valkey, short_folder) as (proxy, proxy_url),
        httpx.AsyncClient(timeout=60.0) as http,
    ):
        run = await survivor.create_run()
        batch = await survivor.lease(run.id, 4)
        assert batch.lease is not None
        body = cargo(batch.lease.fence, batch.items[0].task.id)
        path = f"/v1/leases/{batch.lease.id}/groups"
        log = short_folder / "replica.log"
        async with replica(database_url, proxy_url, log=log) as victim:
            doomed = Api(http)
            call = doomed.post(
                victim.url + path, body, key="once", content_type=SAFETENSORS_MEDIA_TYPE
            )
            await dies_at(proxy, "settle", victim, call)
        assert query(database_url, "SELECT count(*) FROM ledger") == [(1,)]
        counts = await survivor.counts(run.id)
        assert (counts.num_leased, counts.num_ready_groups) == (4, 0), "committed, not settled"
        receipt = parse(
            await survivor.post(path, body, key="once", content_type=SAFETENSORS_MEDIA_TYPE),
            Receipt,
        )
        assert receipt.groups[0].gate == "admitted"
        counts = await survivor.counts(run.id)
        assert (counts.num_leased, counts.num_ready_groups) == (3, 1)
        rest = batch.model_copy(update={"items": batch.items[1:]})
        await survivor.report_cargo(rest)
        training = await survivor.train(run.id)
        assert body in training.bodies
        assert (await survivor.acked(training, 1)).num_groups == 4
        check_laws(valkey.url, run.id, num_tasks=12)
        ((last,),) = query(database_url, "SELECT max(apply_seq) FROM ledger")
        check_run(database_url, valkey.url, run, boundaries=[int(str(last))])


async def test_a_death_between_an_ack_and_its_bank(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    """With a replayed group: one line in the ledger, one replay in the bank, whoever acks."""
    async with (
        sampler_app(database_url, valkey.url) as survivor,
        redis_proxy(valkey, short_folder) as (proxy, proxy_url),
        httpx.AsyncClient(timeout=60.0) as http,
    ):
        run = await survivor.create_run(
            num_tasks=24, curriculum={"preset": "vcrl"}, limits={"training_batch_groups": 2}
        )
        await survivor.report_cargo(await survivor.lease(run.id, 2))
        await survivor.acked(await survivor.train(run.id), 1)
        await survivor.report_cargo(await survivor.lease(run.id, 1))
        await survivor.report_cargo(await survivor.lease(run.id, 1), values=(0.0,) * 4)
        training = await survivor.train(run.id)
        assert [ref.num_replays for ref in training.manifest.groups] == [0, 1]
        lease = training.manifest.lease
        assert lease is not None
        body = {"fence": lease.fence, "policy_version": 2, "weights_uri": "file:///weights/v2"}
        path = f"/v1/training-batches/{lease.id}/ack"
        log = short_folder / "replica.log"
        async with replica(database_url, proxy_url, log=log) as victim:
            call = Api(http).post(victim.url + path, body, key="once")
            await dies_at(proxy, "untake", victim, call)
        lines = "SELECT number, policy_version FROM ledger WHERE verdict = 'replayed'"
        assert query(database_url, lines) == [(1, 1)], "committed, not settled"
        before = query(database_url, "SELECT * FROM task_statistics ORDER BY ordinal")
        counts = await survivor.counts(run.id)
        assert (counts.num_training_groups, counts.num_ready_groups) == (2, 0)
        for _ in range(2):
            assert (await survivor.post(path, body, key="once")).status_code == 200
        assert query(database_url, lines) == [(1, 1)]
        bank = (await survivor.view(run.id)).bank
        assert bank is not None
        assert (bank.num_groups, bank.num_replayed) == (3, 1)
        assert query(database_url, "SELECT * FROM task_statistics ORDER BY ordinal") == before
        hot = check_laws(valkey.url, run.id, num_tasks=24)
        replays = sorted(int(entry.split()[1]) for entry in hot.hashes["banked"].values())
        assert replays == [0, 0, 1]


async def test_invariant_6_stateless_a_replica_dies_at_work_and_comes_back(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    """Workers that retry through a crash end with every group counted once."""
    port, log = free_port(), short_folder / "replica.log"
    async with sampler_app(database_url, valkey.url) as survivor:
        run = await survivor.create_run(
            num_tasks=40, mode="curriculum_only", limits={"lease_ttl_s": 1.0, "cap_groups": 40}
        )
        taken: list[str] = []
        stop = asyncio.Event()

        async def work(number: int) -> None:
            url = f"http://127.0.0.1:{port}"
            async with AsyncEtudeClient(url, max_attempts=60) as client:
                while not stop.is_set():
                    request = PromptBatchRequest(num_tasks=4, worker=f"w{number}", wait_s=0.2)
                    batch = await client.lease_prompt_batch(run.id, request)
                    if batch.lease is None:
                        continue
                    try:
                        receipt = await client.report_groups(batch.lease.id, report_of(batch))
                    except LeaseSuperseded:  # it expired while the replica was away
                        continue
                    taken.append(receipt.id)

        async def more_than(num: int) -> bool:
            return len(taken) > num

        async with replica(database_url, valkey.url, log=log, port=port) as victim:
            workers = [asyncio.create_task(work(number)) for number in range(4)]
            await wait_until(lambda: more_than(10), what="work goes on", timeout_s=60)
            victim.kill()
        async with replica(database_url, valkey.url, log=log, port=port):
            seen = len(taken)
            await wait_until(lambda: more_than(seen + 10), what="work goes on", timeout_s=60)
            stop.set()
            await asyncio.gather(*workers)

        async def all_back() -> bool:
            return (await survivor.counts(run.id)).num_leased == 0

        await wait_until(all_back, what="the last leases end")
        check_laws(valkey.url, run.id, num_tasks=40)
        check_run(database_url, valkey.url, run)
        ((applied,),) = query(database_url, "SELECT count(*) FROM ledger WHERE verdict = 'applied'")
        assert int(str(applied)) >= 4 * len(set(taken))
        assert len(taken) == len(set(taken)), "no receipt was given twice"
        stored = query(database_url, "SELECT convert_from(response, 'UTF8') FROM receipts")
        kept = {Receipt.model_validate_json(str(row[0])).id for row in stored}
        assert set(taken) <= kept, "what was acknowledged is there"
        assert applied == 4 * len(kept)
