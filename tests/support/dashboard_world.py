"""Two runs to look at: one that trains, with a queue, leases and trajectories, and one that is
curriculum-only. Outcomes are those of `workload`: a skill that grows from version to version.
"""

from __future__ import annotations

from dataclasses import dataclass

from etude_client import EtudeClient
from etude_proto.v1 import (
    AckRequest,
    DatasetCreate,
    Message,
    PolicyVersionRequest,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
    TaskCreate,
    TrainingBatchRequest,
)

from .workload import SUBTASKS, cargo, chance, lines, report_of, task

HOSTILE = '<img src=x onerror="window.hacked = true"><script>window.hacked = true</script>'
"""A prompt that must stay text."""


@dataclass(frozen=True, slots=True)
class World:
    """What was made."""

    trained: Run
    compared: Run


def make_world(client: EtudeClient, *, num_tasks: int = 60, num_versions: int = 10) -> World:
    """Both runs, over the same tasks; the first task's prompt looks like markup."""
    dataset = client.create_dataset(DatasetCreate(name="looked-at"))
    made = [task(n, source="even" if n % 2 == 0 else "odd") for n in range(num_tasks)]
    hostile = TaskCreate(
        messages=[Message(role="user", content=HOSTILE)],
        reference=made[0].reference,
        subtasks=list(SUBTASKS),
        source="odd",
    )
    client.import_tasks(dataset.id, [lines([hostile, *made[1:]])])
    limits = RunLimits(training_batch_groups=4, max_group_bytes=1 << 16)
    create = RunCreate(name="trained", dataset_id=dataset.id, group_size=4, seed=7, limits=limits)
    trained = client.create_run(create)
    mode = {"name": "compared", "mode": RunMode.CURRICULUM_ONLY, "seed": 8}
    compared = client.create_run(create.model_copy(update=mode))
    for version in range(1, num_versions + 1):
        _train(client, trained, version)
        _outcomes(client, compared, version, skill=0.2 + 0.6 * version / num_versions)
    _roll_out(client, trained, 8, worker="anna", num_reported=6)
    client.lease_prompt_batch(trained.id, PromptBatchRequest(num_tasks=3, worker="bert"))
    return World(trained, compared)


def _roll_out(
    client: EtudeClient, run: Run, num_tasks: int, *, worker: str, num_reported: int
) -> None:
    """Lease tasks and report some, with trajectories and a reward that varies."""
    batch = client.lease_prompt_batch(
        run.id, PromptBatchRequest(num_tasks=num_tasks, worker=worker)
    )
    assert batch.lease is not None
    for item in batch.items[:num_reported]:
        won = [float(chance(item.task.id, batch.policy_version, i) < 0.5) for i in range(4)]
        values = won if 0 < sum(won) < 4 else [1.0, 0.0, 1.0, 0.0]
        body = cargo(
            batch.lease.fence, item.task.id, values, version=batch.policy_version, text=HOSTILE
        )
        client.report_groups(batch.lease.id, body)


def _train(client: EtudeClient, run: Run, version: int) -> None:
    """One training batch, acked."""
    _roll_out(client, run, 4, worker="anna", num_reported=4)
    request = TrainingBatchRequest(trainer="trainer", num_groups=4)
    lease = client.lease_training_batch(run.id, request).manifest.lease
    assert lease is not None
    client.ack_training_batch(
        lease.id,
        AckRequest(
            fence=lease.fence,
            policy_version=version,
            weights_uri=f"file:///weights/v{version}",
            metrics={"loss": 1.0 / version, "grad_norm": 0.5},
        ),
    )


def _outcomes(client: EtudeClient, run: Run, version: int, *, skill: float) -> None:
    """One version of a curriculum-only run."""
    batch = client.lease_prompt_batch(run.id, PromptBatchRequest(num_tasks=12, worker="trl"))
    assert batch.lease is not None
    client.report_groups(batch.lease.id, report_of(batch, skill=skill))
    client.announce_policy_version(run.id, PolicyVersionRequest(policy_version=version))
