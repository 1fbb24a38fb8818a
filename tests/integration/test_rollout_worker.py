"""The rollout service and a real sampler: groups out, weights in, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from etude_client import AsyncEtudeClient
from etude_proto.v1 import FinishReason, PromptBatchRequest, RunMode
from etude_rollout.models.tiny_tasks import dataset
from etude_rollout.service import EXIT_FAILED, EXIT_OK
from etude_rollout.status import Phase
from support.live_sampler import gated
from support.rollout_parts import publish, shift
from support.rollout_service import (
    GROUP_SIZE,
    GROUPS,
    Observer,
    create_run,
    rolling_out,
    until,
)


async def test_groups_arrive_with_their_tokens(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    async with rolling_out(policy_dir, sampler_url, tmp_path) as service:
        await observer.until(lambda counts: counts.num_ready_groups >= GROUPS, "groups are ready")
        groups = await observer.train(1, "v1")
        assert len(groups) == GROUPS
        for tensors, report in groups:
            assert tensors.num_rollouts == GROUP_SIZE
            assert set(tensors.versions_T[tensors.loss_mask_T == 1].tolist()) == {0}
            assert report.worker == "worker-1"
            assert (report.engine or "").startswith("transformers-")
    assert service.exit_code == EXIT_OK
    status = service.status.snapshot()
    assert status.phase is Phase.STOPPED
    assert status.num_rollouts == GROUP_SIZE * await observer.num_applied()
    assert (await observer.counts()).num_leased == 0


async def test_curriculum_only_runs_get_outcomes_alone(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client, mode=RunMode.CURRICULUM_ONLY))
    async with rolling_out(policy_dir, sampler_url, tmp_path):
        await observer.until(lambda counts: counts.num_groups_drawn >= 20, "tasks are drawn")
    assert await observer.num_applied() >= 18
    counts = await observer.counts()
    assert (counts.num_ready_groups, counts.cargo_bytes, counts.num_leased) == (0, 0, 0)


async def test_announced_weights_are_loaded_and_proved(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    uris = [
        publish(
            policy_dir, tmp_path / "weights" / f"v{v}", version=v, change=shift("proj")
        ).as_uri()
        for v in range(1, 6)
    ]
    async with rolling_out(policy_dir, sampler_url, tmp_path) as service:
        await observer.train(1, uris[0])
        await until(lambda: service.status.policy_version == 1, "version 1 is loaded")
        gap = service.status.parity_gap
        assert gap is not None
        assert gap < 1e-4
        for version in range(2, 6):  # what was sampled before comes first
            groups = await observer.train(version, uris[version - 1])
            sampled = {int(v) for tensors, _ in groups for v in tensors.versions_T} - {-1}
            assert max(sampled) <= version - 1
            if min(sampled) >= 1:
                break
        else:
            pytest.fail("nothing was sampled from the new weights")


async def test_weights_that_compute_something_else_stop_the_worker(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    publish(policy_dir, tmp_path / "weights" / "v1", version=1, parity_offset=0.5)
    async with rolling_out(policy_dir, sampler_url, tmp_path) as service:
        await observer.train(1, "v1")
        await asyncio.wait_for(service.wait(), 60)
        assert service.exit_code == EXIT_FAILED
        assert service.status.snapshot().phase is Phase.FAILED
        assert "differ" in (service.status.last_error or "")
        assert not service.worker_check().ok
        # Its leases were given back, and nothing sampled from the wrong weights was reported.
        assert (await observer.counts()).num_leased == 0
        while (await observer.counts()).num_ready_groups >= GROUPS:
            version = (await client.get_run(observer.run.id)).policy_version
            for tensors, _ in await observer.train(version + 1, "v1"):
                assert tensors.versions_T.max() == 0


async def test_pruned_weights_are_waited_out(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    kept = publish(policy_dir, tmp_path / "kept", version=1, change=shift("norm"))
    async with rolling_out(policy_dir, sampler_url, tmp_path) as service:
        await observer.train(1, "v1")
        await until(
            lambda: "there is no directory" in (service.status.last_error or ""),
            "the weights are missed",
        )
        (tmp_path / "weights").mkdir(exist_ok=True)
        shutil.move(kept, tmp_path / "weights" / "v1")
        await until(lambda: service.status.policy_version == 1, "they are loaded after all")
    assert service.exit_code == EXIT_OK


async def test_a_stop_gives_back_what_it_cannot_finish(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    slow = {"max_new_tokens": 900, "shutdown_grace_s": 0.2, "tasks_per_batch": 4}
    async with rolling_out(policy_dir, sampler_url, tmp_path, **slow) as service:
        await until(lambda: service.status.groups_generating > 0, "something is generated")
        assert (await observer.counts()).num_leased > 0
    assert service.exit_code == EXIT_OK
    counts = await observer.counts()
    assert counts.num_leased == 0
    assert counts.num_expired == 0
    assert counts.num_prompt_leases == 0


async def test_giving_back_is_not_cut_short_itself(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """A second word to stop, or another batch's failure, may come while a lease is given back."""
    observer = Observer(client, await create_run(client))
    slow = {"max_new_tokens": 900, "batches_in_flight": 1, "tasks_per_batch": 4}
    with gated(sampler_url) as (url, gate):
        async with rolling_out(policy_dir, url, tmp_path, **slow) as service:
            await until(lambda: service.status.groups_generating > 0, "something is generated")
            gate.hold(r"POST /v1/leases/.*/release")
            service.cut_short()
            await asyncio.to_thread(gate.wait_held)
            service.cut_short()
            gate.drop()
            await asyncio.wait_for(service.wait(), 60)
    counts = await observer.counts()
    assert (counts.num_prompt_leases, counts.num_expired) == (0, 0)


async def test_a_report_that_gets_no_answer_is_counted_once(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    with gated(sampler_url) as (url, gate):
        gate.hold(r"POST /v1/leases/.*/groups", at="reply")
        async with rolling_out(policy_dir, url, tmp_path, batches_in_flight=1) as service:
            await asyncio.to_thread(gate.wait_held)
            await asyncio.to_thread(gate.drop)
            await observer.until(lambda counts: counts.num_ready_groups >= 2, "groups are ready")
    deliveries = service.status.deliveries
    assert set(deliveries) == {"accepted"}
    assert deliveries["accepted"] == await observer.num_applied()


async def test_results_outlast_an_unreachable_sampler(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    observer = Observer(client, await create_run(client))
    with gated(sampler_url) as (url, gate):
        gate.hold(r"POST /v1/leases/.*/groups")
        async with rolling_out(policy_dir, url, tmp_path, batches_in_flight=1) as service:
            await asyncio.to_thread(gate.wait_held)
            assert await observer.num_applied() == 0
            gate.drop()  # 503, as from a proxy before a sampler that is away
            await observer.until(lambda counts: counts.num_ready_groups >= 2, "groups are ready")
    assert set(service.status.deliveries) == {"accepted"}


async def test_a_lost_lease_is_dropped_and_the_work_goes_on(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    run = await create_run(client, lease_ttl_s=0.5, num_tasks=2)
    with gated(sampler_url) as (url, gate):
        gate.hold(r"POST /v1/leases/.*")  # no heartbeat and no report gets through
        async with rolling_out(policy_dir, url, tmp_path, batches_in_flight=1) as service:
            await asyncio.to_thread(gate.wait_held)
            request = PromptBatchRequest(num_tasks=2, worker="thief", wait_s=10.0, ttl_s=0.5)
            stolen = await client.lease_prompt_batch(run.id, request)
            assert len(stolen.items) == 2
            gate.open()
            await until(lambda: service.status.deliveries["lost"] > 0, "the loss is noticed")
            await until(lambda: service.status.deliveries["accepted"] > 0, "the work goes on")
    curriculum = await client.get_curriculum(run.id)
    assert curriculum.num_groups_applied == service.status.deliveries["accepted"]


async def test_tasks_that_cannot_be_scored_move_no_statistics(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    rows = [
        row.model_copy(update={"reference": None}) for row in dataset(num_train=4, num_held_out=0)
    ]
    run = await create_run(client, rows=rows, mode=RunMode.CURRICULUM_ONLY)
    observer = Observer(client, run)
    async with rolling_out(policy_dir, sampler_url, tmp_path) as service:
        await until(lambda: service.status.deliveries["accepted"] >= 4, "failures are reported")
        assert set(service.status.finish_reasons) == {FinishReason.ERROR.value}
    assert await observer.num_applied() == 0
    assert (await observer.counts()).num_ready_groups == 0
