"""A request that works, and one with another body, for every mutating call of the contract."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from etude_client import AsyncEtudeClient
from etude_proto.keys import new_key
from etude_proto.v1 import (
    CheckpointCreate,
    CurriculumConfig,
    DatasetCreate,
    KeyCreate,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunMode,
    Scope,
    TrainingBatchRequest,
)

from .flow import GROUP_SIZE, LIMITS, cargo_for, report_for, tasks

KEY = new_key()


@dataclass(slots=True)
class Try:
    """A call that works, and the same call with another body (None: it has no body)."""

    ids: dict[str, str]
    body: object
    other: object
    headers: dict[str, str]


def _try(ids: dict[str, str], body: object = None, other: object = None, **headers: str) -> Try:
    return Try(ids, body, other, {name.replace("_", "-"): value for name, value in headers.items()})


class World:
    """Fresh objects for each call, made over the API."""

    def __init__(self, client: AsyncEtudeClient) -> None:
        self._client = client
        self._dataset = ""

    async def dataset(self) -> str:
        """A dataset with tasks, the same for all runs."""
        if not self._dataset:
            self._dataset = (await self._client.create_dataset(DatasetCreate(name="sums"))).id
            await self._client.import_tasks(self._dataset, tasks(12))
        return self._dataset

    async def run(self, mode: RunMode = RunMode.TRAINING) -> Run:
        """A run of its own."""
        create = RunCreate(
            name="run",
            dataset_id=await self.dataset(),
            group_size=GROUP_SIZE,
            limits=LIMITS,
            mode=mode,
            curriculum=CurriculumConfig(preset="uniform"),
        )
        return await self._client.create_run(create)

    async def lease(self, run: Run) -> tuple[str, dict[str, object], dict[str, object]]:
        """A prompt lease: its id, its fence, and a report of one task."""
        batch = await self._client.lease_prompt_batch(
            run.id, PromptBatchRequest(num_tasks=2, worker="w")
        )
        assert batch.lease is not None
        report = report_for(batch.lease, batch.items[0].task.id, 0)
        return batch.lease.id, {"fence": batch.lease.fence}, report.model_dump(mode="json")

    async def training(self, run: Run) -> tuple[str, dict[str, object]]:
        """A training lease: its id and its fence."""
        batch = await self._client.lease_prompt_batch(
            run.id, PromptBatchRequest(num_tasks=1, worker="w")
        )
        assert batch.lease is not None
        report = report_for(batch.lease, batch.items[0].task.id, 0)
        await self._client.report_groups(batch.lease.id, cargo_for(report, 0))
        frame = await self._client.lease_training_batch(
            run.id, TrainingBatchRequest(trainer="t", num_groups=1)
        )
        assert frame.manifest.lease is not None
        return frame.manifest.lease.id, {"fence": frame.manifest.lease.fence}

    async def checkpoint(self, run: Run) -> str:
        """A checkpoint of a run."""
        made = await self._client.create_checkpoint(run.id, CheckpointCreate(label="c"))
        return made.id


async def _create_key(_: World) -> Try:
    body = {"id": KEY.id, "digest": KEY.digest, "label": "x", "scopes": ["admin"]}
    return _try({}, body, {**body, "label": "y"})


async def _datasets(world: World) -> Try:
    return _try({}, {"name": "one"}, {"name": "two"})


async def _import(world: World) -> Try:
    lines = b"\n".join(tasks(15))
    ids = {"dataset_id": await world.dataset()}
    return _try(ids, lines, lines + b"\n" + lines, content_type="application/x-ndjson")


async def _delete_dataset(world: World) -> Try:
    made = await world._client.create_dataset(DatasetCreate(name="unused"))
    return _try({"dataset_id": made.id})


async def _create_run(world: World) -> Try:
    body = {"name": "one", "dataset_id": await world.dataset()}
    return _try({}, body, {**body, "name": "two"})


async def _update_run(world: World) -> Try:
    ids = {"run_id": (await world.run()).id}
    return _try(ids, {"name": "one"}, {"name": "two"}, if_match='"1"')


async def _run_only(world: World) -> Try:
    return _try({"run_id": (await world.run()).id})


async def _delete_run(world: World) -> Try:
    run = await world.run()
    await world._client.pause_run(run.id)
    return _try({"run_id": run.id})


async def _prompt_batches(world: World) -> Try:
    ids = {"run_id": (await world.run()).id}
    body = {"num_tasks": 3, "worker": "w"}
    return _try(ids, body, {**body, "num_tasks": 2})


async def _extend(world: World) -> Try:
    lease_id, fence, _ = await world.lease(await world.run())
    return _try({"lease_id": lease_id}, {**fence, "ttl_s": 30}, {**fence, "ttl_s": 40})


async def _release(world: World) -> Try:
    lease_id, fence, _ = await world.lease(await world.run())
    return _try({"lease_id": lease_id}, fence, {"fence": 1})


async def _report(world: World) -> Try:
    lease_id, _, report = await world.lease(await world.run())
    other = json.loads(json.dumps(report))
    other["groups"][0]["attempts"][0]["outcomes"][0]["reward"] = 0.25
    return _try({"lease_id": lease_id}, report, other)


async def _training_batches(world: World) -> Try:
    run = await world.run()
    lease_id, fence = await world.training(run)
    released = await world._client._transport._main.post(
        f"/v1/training-batches/{lease_id}/release", json=fence, headers={"idempotency-key": "r"}
    )
    assert released.status_code == 200
    body = {"trainer": "t", "num_groups": 1}
    return _try({"run_id": run.id}, body, {**body, "trainer": "u"})


async def _extend_training(world: World) -> Try:
    lease_id, fence = await world.training(await world.run())
    return _try({"lease_id": lease_id}, {**fence, "ttl_s": 30}, {**fence, "ttl_s": 40})


async def _release_training(world: World) -> Try:
    lease_id, fence = await world.training(await world.run())
    return _try({"lease_id": lease_id}, fence, {"fence": 1})


async def _ack(world: World) -> Try:
    lease_id, fence = await world.training(await world.run())
    body = {**fence, "policy_version": 1, "weights_uri": "/w/1"}
    return _try({"lease_id": lease_id}, body, {**body, "weights_uri": "/w/other"})


async def _announce(world: World) -> Try:
    ids = {"run_id": (await world.run(RunMode.CURRICULUM_ONLY)).id}
    return _try(ids, {"policy_version": 1}, {"policy_version": 1, "weights_uri": "/w/1"})


async def _predict(world: World) -> Try:
    run = await world.run()
    task_id = (await world._client.list_tasks(run.id)).items[0].id
    body = {"policy_version": 0, "predictions": [{"task_id": task_id, "value": 0.5}]}
    other = {"policy_version": 0, "predictions": [{"task_id": task_id, "value": 0.75}]}
    return _try({"run_id": run.id}, body, other)


async def _create_checkpoint(world: World) -> Try:
    return _try({"run_id": (await world.run()).id}, {"label": "one"}, {"label": "two"})


async def _delete_checkpoint(world: World) -> Try:
    run = await world.run()
    return _try({"run_id": run.id, "checkpoint_id": await world.checkpoint(run)})


async def _restore(world: World) -> Try:
    run = await world.run()
    checkpoint = await world.checkpoint(run)
    other = await world.checkpoint(run)
    return _try({"run_id": run.id}, {"checkpoint_id": checkpoint}, {"checkpoint_id": other})


async def _fork(world: World) -> Try:
    return _try({"run_id": (await world.run()).id}, {"name": "one"}, {"name": "two"})


async def _revoke(world: World) -> Try:
    made = new_key()
    request = KeyCreate(id=made.id, digest=made.digest, label="x", scopes=[Scope.READ])
    return _try({"key_id": (await world._client.create_key(request)).id})


TRIES: dict[str, Callable[[World], Awaitable[Try]]] = {
    "create_dataset": _datasets,
    "import_tasks": _import,
    "delete_dataset": _delete_dataset,
    "create_run": _create_run,
    "update_run": _update_run,
    "pause_run": _run_only,
    "resume_run": _run_only,
    "rebuild_run": _run_only,
    "delete_run": _delete_run,
    "lease_prompt_batch": _prompt_batches,
    "extend_lease": _extend,
    "release_lease": _release,
    "report_groups": _report,
    "lease_training_batch": _training_batches,
    "extend_training_batch": _extend_training,
    "ack_training_batch": _ack,
    "release_training_batch": _release_training,
    "announce_policy_version": _announce,
    "post_predictions": _predict,
    "create_checkpoint": _create_checkpoint,
    "delete_checkpoint": _delete_checkpoint,
    "restore_run": _restore,
    "fork_run": _fork,
    "create_key": _create_key,
    "revoke_key": _revoke,
}
