"""The rollout service and budgets: a real policy makes what was allotted, in one or two phases."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from etude_client import AsyncEtudeClient
from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    LedgerEntry,
    Part,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
    TrainingBatchRequest,
)
from etude_rollout.service import RolloutService
from etude_sampler.embedded import RunningServer
from etude_sampler.ports.allotments import parse_allotments
from etude_trainer.batch import decode_batch
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support.rollout_service import Observer, rolling_out
from support.sampler_app import query
from support.sampler_app_redis import read_hot
from support.undecided_policy import MAX_NEW_TOKENS, PREFILL, answers, undecided_policy
from support.waiting import wait_until

GROUP_SIZE = 4
GROUPS = 4
NUM_TASKS = 16


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undecided_policy(tmp_path_factory.mktemp("policy") / "tiny")


async def create(client: AsyncEtudeClient, preset: str, mode: RunMode, **parts: Part) -> Run:
    """A run over tasks that the policy answers rightly every second time."""
    dataset = await client.create_dataset(DatasetCreate(name="answers"))
    rows = answers(NUM_TASKS)
    await client.import_tasks(dataset.id, [row.model_dump_json().encode() for row in rows])
    return await client.create_run(
        RunCreate(
            name="r",
            dataset_id=dataset.id,
            curriculum=CurriculumConfig.model_validate({"preset": preset, **parts}),
            mode=mode,
            group_size=GROUP_SIZE,
            limits=RunLimits(
                training_batch_groups=GROUPS, max_group_bytes=1 << 20, max_staleness=8
            ),
        )
    )


async def reported(client: AsyncEtudeClient, run: Run) -> list[LedgerEntry]:
    """All groups of the run, task by task."""
    page = await client.list_tasks(run.id, limit=NUM_TASKS)
    views = [await client.get_task(run.id, task.id) for task in page.items]
    return [entry for view in views for entry in view.recent]


def rolling(
    policy_dir: Path, sampler_url: str, folder: Path
) -> AbstractAsyncContextManager[RolloutService]:
    """The worker, with one token to get it right or wrong."""
    return rolling_out(
        policy_dir,
        sampler_url,
        folder,
        assistant_prefill=PREFILL,
        max_new_tokens=MAX_NEW_TOKENS,
        tasks_per_batch=4,
    )


async def test_two_phases_inside_one_lease(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """SPEED: 4 rollouts, 20 more where they disagree; only these are trained on."""
    run = await create(client, "speed", RunMode.TRAINING)
    observer = Observer(client, run)
    async with rolling(policy_dir, sampler_url, tmp_path) as service:
        await observer.until(lambda counts: counts.num_ready_groups >= GROUPS, "groups are ready")
    assert set(service.status.deliveries) == {"accepted"}
    entries = await reported(client, run)
    sizes = [len(entry.successes) for entry in entries]
    assert set(sizes) == {4, 24}, "some were stopped, some were not"
    assert sum(sizes) == service.status.num_rollouts
    for entry in entries:
        first = [bool(success) for success in entry.successes[:4]]
        assert (len(set(first)) == 1) == (len(entry.successes) == 4)
    counts = await observer.counts()
    assert counts.num_ready_groups == sizes.count(24)
    assert await observer.num_applied() == len(sizes)
    groups = await observer.train(1, "v1")
    assert {tensors.num_rollouts for tensors, _ in groups} == {24}


async def test_a_worker_makes_what_each_task_was_allotted(  # noqa: PLR0917 - fixtures
    client: AsyncEtudeClient,
    sampler_url: str,
    policy_dir: Path,
    tmp_path: Path,
    database_url: str,
    valkey: RunningServer,
) -> None:
    """CurES quotas; the trainer takes groups of unequal size as they come."""
    everything = Part(name="none")
    run = await create(client, "cures", RunMode.TRAINING, gate=everything)
    observer = Observer(client, run)
    async with rolling(policy_dir, sampler_url, tmp_path):
        enough = NUM_TASKS + 12  # the second time round something is known
        await observer.until(lambda counts: counts.num_ready_groups >= enough, "groups are ready")
        request = TrainingBatchRequest(trainer="t", num_groups=enough // 2, wait_s=20.0)
        frames = [await client.lease_training_batch(run.id, request) for _ in range(2)]
    decoded = [decode_batch(f.manifest, f.bodies, vocab_size=1 << 16) for f in frames]
    assert not any(one.refused for one in decoded)
    groups = [group for one in decoded for group in one.groups]
    sizes = {len(group.rewards_G) for group in groups}
    assert len(sizes) > 1, "groups differ in size"
    learner = build_learner(policy_dir, parse_config(""), device="cpu")
    metrics = learn(learner, groups, step=0, progress=lambda _done, _total: None)
    assert (metrics["group_size_min"], metrics["group_size_max"]) == (min(sizes), max(sizes))
    assert metrics["grad_norm"] > 0
    assert math.isfinite(metrics["loss_token_mean"] + metrics["loss_group_mean"])

    async def drained() -> bool:
        return not read_hot(valkey.url, run.id).logged

    await wait_until(drained, what="the decision log is drained")
    logged = {
        str(lease): parse_allotments(str(words))
        for lease, words in query(
            database_url, "SELECT lease_id, tasks FROM decisions WHERE kind = 'budget'"
        )
    }
    rows = query(
        database_url,
        "SELECT lease_id, ordinal, json_array_length(outcomes::json -> 'reward') FROM ledger",
    )
    made = [
        (logged[str(lease)][int(str(ordinal))].num_rollouts, num)
        for lease, ordinal, num in rows
        if str(lease) in logged
    ]
    assert len(made) >= NUM_TASKS + 12
    assert all(asked == num for asked, num in made)
    for allotted in logged.values():
        total = sum(one.num_rollouts for one in allotted.values())
        assert total == GROUP_SIZE * len(allotted)
