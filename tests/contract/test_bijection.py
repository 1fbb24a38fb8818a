"""Operations and client methods are one to one, and every one of them works on real servers."""

from __future__ import annotations

import inspect

import pytest

from etude_client import (
    AsyncEtudeClient,
    CheckpointNotFound,
    EtudeClient,
    LeaseSuperseded,
    RevisionMismatch,
    Unauthorized,
    VersionConflict,
)
from etude_client.errors import IllegalTransition, RunNotFound
from etude_proto.keys import new_key
from etude_proto.tensors import decode_group
from etude_proto.v1 import (
    AckRequest,
    CheckpointCreate,
    CurriculumConfig,
    DatasetCreate,
    ExtendRequest,
    ForkedFrom,
    ForkRequest,
    GateVerdict,
    KeyCreate,
    PolicyVersionRequest,
    Prediction,
    PredictionsRequest,
    PromptBatchRequest,
    ReleaseRequest,
    RestoreRequest,
    Run,
    RunCreate,
    RunMode,
    RunStatus,
    RunUpdate,
    Scope,
    TrainingBatchRequest,
    Verdict,
)
from support.contract import JsonObject, operations

from .conftest import Recorder
from .flow import GROUP_SIZE, LIMITS, cargo_for, report_for, tasks

NOT_OPERATIONS = {
    "close",
    "heartbeat",
    "import_rows",
    "iter_datasets",
    "iter_history",
    "iter_runs",
    "iter_tasks",
}


@pytest.mark.parametrize("kind", [AsyncEtudeClient, EtudeClient])
def test_operations_are_methods(kind: type[object], documents: dict[str, JsonObject]) -> None:
    members = inspect.getmembers(kind, inspect.isfunction)
    methods = {name for name, _ in members if not name.startswith("_")}
    assert methods - NOT_OPERATIONS == set(operations(documents["sampler"]))


async def control_plane(client: AsyncEtudeClient) -> Run:
    """Dataset, import, run, and every call that reads or changes them."""
    dataset = await client.create_dataset(DatasetCreate(name="sums"))
    assert (await client.create_dataset(DatasetCreate(name="sums"))).id == dataset.id
    receipt = await client.import_tasks(dataset.id, tasks(12))
    assert (receipt.num_created, receipt.num_rejected) == (12, 0)
    again = await client.import_tasks(dataset.id, list(tasks(12)))
    assert (again.num_created, again.num_existing) == (0, 12)
    assert (await client.get_dataset(dataset.id)).sources == {"sums": 12}
    assert [item.id for item in (await client.list_datasets()).items] == [dataset.id]

    create = RunCreate(name="first", dataset_id=dataset.id, group_size=GROUP_SIZE, limits=LIMITS)
    run = await client.create_run(create)
    assert run.num_tasks == 12
    renamed = await client.update_run(run.id, RunUpdate(name="renamed"), revision=run.revision)
    assert renamed.name == "renamed"
    assert renamed.revision > run.revision
    with pytest.raises(RevisionMismatch):
        await client.update_run(run.id, RunUpdate(name="late"), revision=run.revision)
    assert (await client.pause_run(run.id)).status is RunStatus.PAUSED
    assert (await client.resume_run(run.id)).status is RunStatus.ACTIVE
    assert (await client.rebuild_run(run.id)).epoch == run.epoch + 1
    assert (await client.get_run(run.id)).name == "renamed"
    assert [item.id for item in (await client.list_runs()).items] == [run.id]
    return run


async def prompt_batches(client: AsyncEtudeClient, run: Run) -> None:
    """Draw, extend, report with tokens, release the rest."""
    request = PromptBatchRequest(num_tasks=4, worker="worker-1")
    batch = await client.lease_prompt_batch(run.id, request)
    assert batch.lease is not None
    assert len(batch.items) == 4
    lease = await client.extend_lease(batch.lease.id, ExtendRequest(fence=batch.lease.fence))
    assert lease.deadline_ms >= batch.lease.deadline_ms
    seen = await client.get_activity(run.id)
    assert [worker.worker for worker in seen.workers] == ["worker-1"]
    for item in batch.items[:2]:
        report = report_for(lease, item.task.id, batch.policy_version)
        receipt = await client.report_groups(lease.id, cargo_for(report, batch.policy_version))
        assert receipt.groups[0].attempts[0].verdict is Verdict.APPLIED
        assert receipt.groups[0].gate is GateVerdict.ADMITTED
        group, _ = decode_group(await client.get_trajectories(run.id, item.task.id, lease.id))
        assert group.num_rollouts == GROUP_SIZE
    released = await client.release_lease(lease.id, ReleaseRequest(fence=lease.fence))
    assert released.num_released == 2
    with pytest.raises(LeaseSuperseded):
        await client.extend_lease(lease.id, ExtendRequest(fence=lease.fence))


async def training_batches(client: AsyncEtudeClient, run: Run) -> None:
    """Lease, give back, lease again, extend, ack."""
    request = TrainingBatchRequest(trainer="trainer-1", num_groups=1)
    first = (await client.lease_training_batch(run.id, request)).manifest.lease
    assert first is not None
    given_back = await client.release_training_batch(first.id, ReleaseRequest(fence=first.fence))
    assert given_back.num_released == 1
    frame = await client.lease_training_batch(run.id, request)
    lease = frame.manifest.lease
    assert lease is not None
    assert len(frame.bodies) == 1
    extended = await client.extend_training_batch(lease.id, ExtendRequest(fence=lease.fence))
    assert extended.fence == lease.fence
    ack = AckRequest(
        fence=lease.fence, policy_version=1, weights_uri="file:///w/1", metrics={"loss": 0.5}
    )
    receipt = await client.ack_training_batch(lease.id, ack, idempotency_key="step-1")
    assert receipt.policy_version == 1
    assert await client.ack_training_batch(lease.id, ack, idempotency_key="step-1") == receipt


async def looking(client: AsyncEtudeClient, run: Run) -> None:
    """Every view, after the step."""
    page = await client.list_tasks(run.id, order="hardest", source="sums")
    assert len(page.items) == 12
    task_id = page.items[0].id
    request = PredictionsRequest(
        predictions=[Prediction(task_id=task_id, value=0.25)], policy_version=1
    )
    assert (await client.post_predictions(run.id, request)).num_stored == 1
    view = await client.get_task(run.id, task_id)
    assert view.prediction == 0.25
    curriculum = await client.get_curriculum(run.id)
    counts = curriculum.counts
    assert counts.num_waiting + counts.num_leased + counts.num_parked == counts.num_tasks == 12
    history = await client.get_history(run.id)
    assert [point.policy_version for point in history.items][-1] == 1
    series = await client.get_series(run.id, points=10, figure="loss")
    assert series.versions == [1]
    assert series.figure is not None
    assert (await client.get_distributions(run.id)).num_sampled == 12
    for probe in (client.livez, client.readyz, client.startupz):
        assert (await probe()).status == "ok"


async def curriculum_only(client: AsyncEtudeClient, run: Run) -> None:
    """Outcomes without tokens, versions without batches."""
    create = RunCreate(
        name="second",
        dataset_id=run.dataset_id,
        group_size=GROUP_SIZE,
        mode=RunMode.CURRICULUM_ONLY,
        curriculum=CurriculumConfig(preset="uniform"),
    )
    other = await client.create_run(create)
    batch = await client.lease_prompt_batch(other.id, PromptBatchRequest(num_tasks=1, worker="trl"))
    assert batch.lease is not None
    report = report_for(batch.lease, batch.items[0].task.id, 0)
    receipt = await client.report_groups(batch.lease.id, report)
    assert receipt.groups[0].gate is GateVerdict.NO_TOKENS
    request = PolicyVersionRequest(policy_version=1)
    assert (await client.announce_policy_version(other.id, request)).policy_version == 1


async def time_travel(client: AsyncEtudeClient, run: Run) -> None:
    """Take a checkpoint, begin another run from it, go back to it, forget it."""
    mark = CheckpointCreate(label="here", policy_version=1)
    taken = await client.create_checkpoint(run.id, mark)
    with pytest.raises(VersionConflict):
        await client.create_checkpoint(run.id, CheckpointCreate(policy_version=0))
    assert [one.id for one in (await client.list_checkpoints(run.id)).items] == [taken.id]
    assert await client.get_checkpoint(run.id, taken.id) == taken
    fork = await client.fork_run(run.id, ForkRequest(name="fork", checkpoint_id=taken.id))
    assert fork.forked_from == ForkedFrom(run_id=run.id, checkpoint_id=taken.id, policy_version=1)
    done = await client.restore_run(run.id, RestoreRequest(checkpoint_id=taken.id))
    assert [one.id for one in (await client.list_restores(run.id)).items] == [done.id]
    assert (await client.list_draws(fork.id)).items == []
    assert (await client.delete_checkpoint(run.id, taken.id)).id == taken.id
    with pytest.raises(CheckpointNotFound):
        await client.get_checkpoint(run.id, taken.id)


async def deleting(client: AsyncEtudeClient) -> None:
    """A dataset and its run go; a dataset in use and an active run stay."""
    dataset = await client.create_dataset(DatasetCreate(name="short-lived"))
    await client.import_tasks(dataset.id, list(tasks(2)))
    run = await client.create_run(
        RunCreate(name="short-lived", dataset_id=dataset.id, group_size=GROUP_SIZE)
    )
    for refused in (client.delete_run(run.id), client.delete_dataset(dataset.id)):
        with pytest.raises(IllegalTransition):
            await refused
    await client.pause_run(run.id)
    assert (await client.delete_run(run.id, force=True)).id == run.id
    with pytest.raises(RunNotFound):
        await client.get_run(run.id)
    assert (await client.delete_dataset(dataset.id)).name == "short-lived"


async def keys(client: AsyncEtudeClient) -> None:
    """Make the first key, with which every later call would be made; then end it."""
    made = new_key()
    request = KeyCreate(id=made.id, digest=made.digest, label="first", scopes=[Scope.ADMIN])
    stored = await client.create_key(request)
    assert stored.prefix == made.text[: len(stored.prefix)]
    with pytest.raises(Unauthorized):
        await client.list_keys()
    client._transport._main.headers["authorization"] = f"Bearer {made.text}"
    assert [key.id for key in (await client.list_keys()).items] == [made.id]
    assert (await client.get_key(made.id)).revoked_at is None
    assert (await client.revoke_key(made.id)).revoked_at is not None
    with pytest.raises(Unauthorized):
        await client.get_key(made.id)


async def test_every_operation_works(client: AsyncEtudeClient, recorder: Recorder) -> None:
    run = await control_plane(client)
    await prompt_batches(client, run)
    await training_batches(client, run)
    await looking(client, run)
    await curriculum_only(client, run)
    await time_travel(client, run)
    await deleting(client)
    await keys(client)
    methods = inspect.getmembers(AsyncEtudeClient, inspect.isfunction)
    wanted = {name for name, _ in methods if not name.startswith("_")} - NOT_OPERATIONS
    assert recorder.called == wanted
