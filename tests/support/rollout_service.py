"""A rollout service against a live sampler, for integration tests: a run, and waits on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from etude_client import AsyncEtudeClient
from etude_proto.tensors import GroupTrajectories, decode_group
from etude_proto.v1 import (
    AckRequest,
    Counts,
    CreditSpec,
    CurriculumConfig,
    DatasetCreate,
    Part,
    Report,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
    TaskCreate,
    TrainingBatchRequest,
)
from etude_rollout.models.tiny_tasks import dataset
from etude_rollout.service import RolloutService
from etude_rollout.settings import RolloutSettings
from support.waiting import wait_until

GROUP_SIZE = 4
GROUPS = 4
"""Groups of a training batch."""
LONG_POLLS = 5
"""Times that a training batch is asked for: a busy machine makes groups slowly."""
_IN_REWARD = CreditSpec()


async def create_run(
    client: AsyncEtudeClient,
    *,
    name: str = "r",
    mode: RunMode = RunMode.TRAINING,
    num_tasks: int = 24,
    lease_ttl_s: float = 30.0,
    rows: Sequence[TaskCreate] | None = None,
    credit: CreditSpec = _IN_REWARD,
    max_staleness: int = 4,
) -> Run:
    """A run over the tiny policy's tasks."""
    tasks = rows if rows is not None else dataset(num_train=num_tasks, num_held_out=0)
    created = await client.create_dataset(DatasetCreate(name=f"{name}-tasks"))
    await client.import_tasks(created.id, [row.model_dump_json().encode() for row in tasks])
    return await client.create_run(
        RunCreate(
            name=name,
            dataset_id=created.id,
            # A random policy is always wrong: groups without variance must go through.
            curriculum=CurriculumConfig(preset="uniform", gate=Part(name="none")),
            mode=mode,
            credit=credit,
            group_size=GROUP_SIZE,
            limits=RunLimits(
                training_batch_groups=GROUPS,
                cap_groups=3 * GROUPS,
                max_group_bytes=1 << 20,
                lease_ttl_s=lease_ttl_s,
                max_staleness=max_staleness,
            ),
        )
    )


@asynccontextmanager
async def rolling_out(
    policy_dir: Path, sampler_url: str, folder: Path, **changes: object
) -> AsyncIterator[RolloutService]:
    """A service that works for run `r` with the tiny policy."""
    values = {
        "sampler_url": sampler_url,
        "run": "r",
        "worker": "worker-1",
        "model_path": policy_dir,
        "weights_root": folder / "weights",
        "explain_format": False,
        "max_new_tokens": 16,
        "engine_threads": 1,
        "tasks_per_batch": 2,
        "lease_wait_s": 0.5,
        "shutdown_grace_s": 5.0,
    }
    async with RolloutService(RolloutSettings.model_validate(values | changes)) as service:
        yield service


class Observer:
    """Looks at the sampler and plays the trainer."""

    def __init__(self, client: AsyncEtudeClient, run: Run) -> None:
        self.client = client
        self.run = run

    async def counts(self) -> Counts:
        """The run's counts, which must add up."""
        counts = (await self.client.get_curriculum(self.run.id)).counts
        total = counts.num_waiting + counts.num_leased + counts.num_parked
        assert total == counts.num_tasks
        return counts

    async def num_applied(self) -> int:
        """Groups counted so far."""
        return (await self.client.get_curriculum(self.run.id)).num_groups_applied

    async def until(
        self, condition: Callable[[Counts], bool], what: str, *, timeout_s: float = 60.0
    ) -> None:
        """Return when the run's counts are so."""

        async def holds() -> bool:
            return condition(await self.counts())

        await wait_until(holds, what=what, timeout_s=timeout_s)

    async def train(self, version: int, weights_uri: str) -> list[tuple[GroupTrajectories, Report]]:
        """Lease a full training batch, ack it as a step that produced `version`; its groups."""
        request = TrainingBatchRequest(trainer="t", wait_s=20.0)
        for _ in range(LONG_POLLS):
            frame = await self.client.lease_training_batch(self.run.id, request)
            lease = frame.manifest.lease
            if lease is not None:
                break
        assert lease is not None, "no groups are ready"
        ack = AckRequest(fence=lease.fence, policy_version=version, weights_uri=weights_uri)
        await self.client.ack_training_batch(lease.id, ack)
        return [decode_group(body) for body in frame.bodies]


async def until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Return when the condition holds, without blocking the event loop."""

    async def holds() -> bool:
        return condition()

    await wait_until(holds, what=what, timeout_s=timeout_s)
