"""Replay: batches drawn again from log, ledger and seed; whatever was tampered with shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer, start_redis
from support.replaying import change, play, played, replayed
from support.sampler_app import Api, query, sampler_app
from support.sampler_app_redis import read_hot
from support.time_travel import Traveller
from support.waiting import wait_until


async def test_invariant_8_reproducible_every_batch_is_drawn_again_the_same(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await played(*pair, redis_url=redis_server.url, num_steps=80)
    report = await replayed(database_url, run.id, redis_url=redis_server.url)
    assert (report.differences, report.gaps) == ([], [])
    assert report.ledger.first_fault is None
    assert report.verdict == "same"
    counted = "SELECT kind, count(*)::int FROM decisions WHERE run_id = %s GROUP BY 1"
    kinds = {str(kind): num for kind, num in query(database_url, counted, run.id)}
    assert kinds.keys() == {
        *("open", "draw", "report", "release", "expire", "announce", "configure", "reweigh")
    }, "the history holds every kind of decision"
    (epoch,) = report.epochs
    assert (epoch.num_draws, epoch.num_replayed) == (kinds["draw"], epoch.num_logged)
    assert report.ledger.num_groups > 30
    assert report.ledger.digest == report.ledger.stored_digest


async def test_a_run_that_trains_is_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Acks announce; trajectories, failures and stale groups change nothing that is drawn."""
    api = valkey_api
    run = await api.create_run(num_tasks=16, seed=2)
    for version in range(1, 4):
        await api.report_cargo(await api.lease(run.id, 6))
        await api.acked(await api.train(run.id), version)
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps) == ([], [])
    assert (report.verdict, report.ledger.num_versions) == ("same", 3)


async def test_a_rebased_lane_is_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Arrival times after a rebase are other numbers, and the same ones in replay."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, seed=4, mode="curriculum_only")
    for _ in range(3):
        await api.reported(await api.lease(run.id, 5))
    hot = read_hot(valkey.url, run.id)
    with Redis.from_url(valkey.url) as redis:
        source = Path(__file__).parents[2] / "services/sampler/etude_sampler/store/redis/lua"
        key = f"etude:{{{run.id}}}"
        keys = [f"{key}:meta", f"{key}:lane:1", f"{key}:log"]
        words = [hot.meta[b"epoch"], 2, len(hot.packed("clocks")), 10_000]
        reply = redis.eval((source / "rebase.lua").read_text("utf-8"), 3, *keys, *words)
    assert reply[0] == b"ok"
    assert read_hot(valkey.url, run.id).packed("clocks")[1] == 0.0
    for _ in range(3):
        await api.reported(await api.lease(run.id, 5))
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.verdict, report.differences) == ("same", [])


async def test_each_epoch_is_replayed_from_what_its_rebuild_loaded(
    database_url: str, short_folder: Path
) -> None:
    """Redis is emptied under a run with history: the second epoch begins from the ledger."""
    server = start_redis(short_folder / "valkey", durable=False)
    try:
        async with sampler_app(database_url, server.url) as api:
            run = await played(api, redis_url=server.url)
            version = query(database_url, "SELECT policy_version FROM runs")[0][0]
            assert isinstance(version, int)
            await replayed(database_url, run.id, redis_url=server.url)
            with Redis.from_url(server.url) as redis:
                redis.flushall()

            async def back() -> bool:
                hot = read_hot(server.url, run.id)
                return "meta" in hot.hashes and hot.epoch == run.epoch + 1

            await wait_until(back, what="the run is rebuilt")
            await play([api], run, seed=5, num_steps=25, version=version)
            report = await replayed(database_url, run.id, redis_url=server.url)
    finally:
        server.stop()
    assert (report.differences, report.gaps) == ([], [])
    assert [one.epoch for one in report.epochs] == [1, 2]
    assert all(one.num_draws > 3 for one in report.epochs)
    assert report.verdict == "same"


async def test_what_redis_lost_before_it_was_drained_is_a_gap(
    database_url: str, short_folder: Path
) -> None:
    """A report is in the ledger, its lease's draw is not in the log: replay says so."""
    server = start_redis(short_folder / "valkey", durable=False)
    try:
        async with sampler_app(database_url, server.url) as api:
            run = await played(api, redis_url=server.url, num_steps=10)
            await replayed(database_url, run.id, redis_url=server.url)
            await api.reported(await api.lease(run.id, 2))
            change(
                database_url,
                "DELETE FROM decisions WHERE number >= (SELECT max(number) - 1 FROM decisions)",
            )
            with Redis.from_url(server.url) as redis:
                redis.flushall()

            async def back() -> bool:
                hot = read_hot(server.url, run.id)
                return "meta" in hot.hashes and hot.epoch == run.epoch + 1

            await wait_until(back, what="the run is rebuilt")
            change(
                database_url,
                "DELETE FROM decisions WHERE epoch = 1 AND fence = (SELECT max(fence) FROM ledger)",
            )
            report = await replayed(database_url, run.id, redis_url=server.url)
    finally:
        server.stop()
    assert report.differences == []
    assert [(gap.epoch, gap.last) for gap in report.gaps] == [(1, None)]
    assert "1 leases" in report.gaps[0].why
    assert report.verdict == "unexplained"
    assert report.ledger.explains_statistics


async def test_a_restored_and_a_forked_run_are_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Epochs of a discarded future by the versions of then; a fork from its checkpoint on."""
    api = valkey_api
    run = await api.create_run(num_tasks=30, seed=8, mode="curriculum_only")
    one = Traveller(api, run, database_url)
    for skill in (0.4, 0.5):
        await one.report(6, skill=skill)
        await one.announce()
    await one.report(5)
    taken = await one.checkpoint(label="in the middle of a version")
    for skill in (0.6, 0.7):
        await one.report(6, skill=skill)
        await one.announce()
    await replayed(database_url, run.id, redis_url=valkey.url)
    await one.restore(taken.id)
    fork = await one.fork("other")
    for traveller in (one, Traveller(api, fork, database_url, list(one.boundaries))):
        for skill in (0.3, 0.9):
            await traveller.report(7, skill=skill)
            await traveller.announce()
        report = await replayed(database_url, traveller.run.id, redis_url=valkey.url)
        assert (report.differences, report.gaps) == ([], [])
        assert (report.ledger.first_fault, report.verdict) == (None, "same")
        draws = [found.num_draws for found in report.epochs]
        assert draws == ([5, 2] if traveller is one else [2])


async def test_the_command_says_what_it_found(
    valkey_api: Api,
    database_url: str,
    valkey: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 0, 1 or 2; one line for people on standard error, JSON for scripts."""
    run = await played(valkey_api, redis_url=valkey.url, num_steps=12)
    await replayed(database_url, run.id, redis_url=valkey.url)
    monkeypatch.setenv("ETUDE_DATABASE_URL", database_url)
    monkeypatch.setenv("ETUDE_REDIS_URL", valkey.url)

    def invoke(words: Sequence[str]) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["replay", *words])
        return done.exit_code, done.stdout, done.stderr

    async def command(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(invoke, words)

    code, said, _ = await command(run.name)
    assert (code, said.splitlines()[-1].split(":")[0]) == (0, "same")
    assert "ledger explains statistics: yes" in said
    code, said, _ = await command(run.id, "--json", "--from", "3", "--to", "6", "--epoch", "1")
    told = json.loads(said)
    assert (code, told["verdict"], told["epochs"][0]["num_replayed"]) == (0, "same", 7)
    change(database_url, "DELETE FROM decisions WHERE number = 5")
    code, said, _ = await command(run.id)
    assert code == 1
    assert "gap: epoch 1, number 5: not in the log" in said
    wrong = [[], ["nobody"], ["run_0123456789ab"], [run.id, "--to", "-1"]]
    for words in [*wrong, [run.id, "--from", "4", "--to", "3"], [run.id, "--epoch", "0"]]:
        assert (await command(*words))[0] == 2
    for words, why in (
        (["--epoch", "99"], f"run {run.id} has no epoch 99; it is at epoch 1"),
        (["--from", "9999"], "--from 9999 is beyond the last decision, number "),
        (["--epoch", "1", "--from", "9999"], "--from 9999 is beyond the last decision, number "),
    ):
        code, said, complaint = await command(run.id, *words)
        (line,) = complaint.strip().splitlines()
        assert (code, said) == (2, "")
        assert line.startswith(f"etude: {why}")
    _, _, complaint = await command("run_0123456789ab")
    assert complaint.strip() == "etude: no run 'run_0123456789ab'"
