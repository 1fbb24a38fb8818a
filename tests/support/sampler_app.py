"""A sampler replica in this process, called over HTTP without a socket, and what it holds.

The app is the real one, its lifespan runs, and its servers are real; only the TCP connection of the
caller is left out. Replicas in other processes: `sampler_app_replica`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
import psycopg
from pydantic import BaseModel

from etude_client.call import TrainingFrame
from etude_proto.cargo import FRAME_MEDIA_TYPE, SAFETENSORS_MEDIA_TYPE, unpack_frame
from etude_proto.v1 import (
    AckReceipt,
    Counts,
    CurriculumView,
    Dataset,
    ImportReceipt,
    Problem,
    PromptBatch,
    Receipt,
    Report,
    Run,
    TaskCreate,
    TaskView,
)
from etude_sampler.app import create_app
from etude_sampler.settings import Settings

from .waiting import wait_until
from .workload import cargo, lines, report_of, task

ModelT = TypeVar("ModelT", bound=BaseModel)
Body = BaseModel | Mapping[str, object] | bytes | None
SMALL = {"training_batch_groups": 4, "max_group_bytes": 1 << 20}
"""Limits of a run for tests: batches of four groups."""


def parse(response: httpx.Response, model: type[ModelT], status: int = 200) -> ModelT:
    """The model that an answer holds; any other status is an error of the test."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return model.model_validate_json(response.content)


def problem(response: httpx.Response, status: int, code: str) -> Problem:
    """The problem document that an answer must be."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = Problem.model_validate_json(response.content)
    assert (response.status_code, found.status, found.code) == (status, status, code), found
    assert found.request_id == response.headers["x-request-id"]
    assert found.title
    assert found.detail
    return found


class Api:
    """Calls of the sampler; the plain ones return responses, the named ones what is in them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(
        self,
        path: str,
        body: Body = None,
        *,
        key: str | None = None,
        content_type: str = "application/json",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A mutating call with a fresh idempotency key, or the given one."""
        if isinstance(body, bytes):
            data = body
        elif isinstance(body, BaseModel):
            data = body.model_dump_json().encode()
        else:
            data = b"" if body is None else httpx.Request("POST", "http://x", json=body).content
        named = {"Idempotency-Key": key or uuid.uuid4().hex, "Content-Type": content_type}
        return await self.http.request(
            method, path, content=data, headers={**named, **(headers or {})}
        )

    async def get(self, path: str, **query: str | int) -> httpx.Response:
        """A reading call."""
        return await self.http.get(path, params=query)

    async def view(self, run_id: str) -> CurriculumView:
        """The curriculum now."""
        return parse(await self.get(f"/v1/runs/{run_id}/curriculum"), CurriculumView)

    async def counts(self, run_id: str) -> Counts:
        """Conservation counts now, checked for what always holds."""
        counts = (await self.view(run_id)).counts
        assert counts.num_waiting + counts.num_leased + counts.num_parked == counts.num_tasks
        assert counts.num_parked == 0
        return counts

    async def loaded(self, run_id: str) -> None:
        """Wait until Redis holds a run: while it does not, every task is shown as parked."""

        async def holds() -> bool:
            view = parse(await self.get(f"/v1/runs/{run_id}/curriculum"), CurriculumView)
            return view.counts.num_parked == 0

        await wait_until(holds, what="the run is loaded")

    async def task(self, run_id: str, task_id: str) -> TaskView:
        """One task of a run."""
        return parse(await self.get(f"/v1/runs/{run_id}/tasks/{task_id}"), TaskView)

    async def create_dataset(self, name: str = "unit", *, tasks: Sequence[TaskCreate] = ()) -> str:
        """A dataset with these tasks; its id."""
        response = await self.post("/v1/datasets", {"name": name})
        assert response.status_code in (200, 201), response.text
        dataset_id = Dataset.model_validate_json(response.content).id
        if tasks:
            receipt = parse(await self.upload(dataset_id, lines(tasks)), ImportReceipt)
            assert receipt.num_rejected == 0
        return dataset_id

    async def upload(self, dataset_id: str, data: bytes, **headers: str) -> httpx.Response:
        """Import NDJSON."""
        return await self.post(
            f"/v1/datasets/{dataset_id}/tasks",
            data,
            content_type="application/x-ndjson",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    async def create_run(self, *, num_tasks: int = 12, **spec: object) -> Run:
        """A run over a new dataset of `num_tasks` tasks; fields of `RunCreate` by name."""
        if "dataset_id" not in spec:
            tasks = [task(number) for number in range(num_tasks)]
            spec["dataset_id"] = await self.create_dataset(uuid.uuid4().hex, tasks=tasks)
        spec["limits"] = {**SMALL, **dict(spec.pop("limits", {}))}  # type: ignore[call-overload]
        body = {"name": "test", "seed": 7, "group_size": 4, **spec}
        return parse(await self.post("/v1/runs", body), Run, 201)

    async def try_lease(
        self, run_id: str, num_tasks: int = 4, *, key: str | None = None, **more: object
    ) -> httpx.Response:
        """Ask for a prompt batch."""
        body = {"num_tasks": num_tasks, "worker": "worker", **more}
        return await self.post(f"/v1/runs/{run_id}/prompt-batches", body, key=key)

    async def lease(self, run_id: str, num_tasks: int = 4, **more: object) -> PromptBatch:
        """A prompt batch that holds a lease."""
        key = more.pop("key", None)
        assert key is None or isinstance(key, str)
        batch = parse(await self.try_lease(run_id, num_tasks, key=key, **more), PromptBatch)
        assert batch.lease is not None, batch.degraded_reason
        return batch

    async def report(
        self, batch: PromptBatch, report: Report | bytes | None = None, *, key: str | None = None
    ) -> httpx.Response:
        """Report a batch: as JSON, by default all of it, or as one group's cargo."""
        assert batch.lease is not None
        body = report_of(batch) if report is None else report
        kind = SAFETENSORS_MEDIA_TYPE if isinstance(body, bytes) else "application/json"
        path = f"/v1/leases/{batch.lease.id}/groups"
        return await self.post(path, body, key=key, content_type=kind)

    async def reported(
        self, batch: PromptBatch, report: Report | bytes | None = None, *, key: str | None = None
    ) -> Receipt:
        """The receipt of a report that must be taken."""
        return parse(await self.report(batch, report, key=key), Receipt)

    async def report_cargo(
        self, batch: PromptBatch, *, values: Sequence[float] = (1.0, 0.0, 1.0, 0.0)
    ) -> list[Receipt]:
        """Report every task of a batch with trajectories."""
        assert batch.lease is not None
        version, fence = batch.policy_version, batch.lease.fence
        bodies = [cargo(fence, item.task.id, values, version=version) for item in batch.items]
        return [await self.reported(batch, body) for body in bodies]

    async def try_train(
        self, run_id: str, *, key: str | None = None, **more: object
    ) -> httpx.Response:
        """Ask for a training batch."""
        body = {"trainer": "trainer", **more}
        return await self.post(f"/v1/runs/{run_id}/training-batches", body, key=key)

    async def train(self, run_id: str, **more: object) -> TrainingFrame:
        """A training batch, leased or empty."""
        key = more.pop("key", None)
        assert key is None or isinstance(key, str)
        return frame(await self.try_train(run_id, key=key, **more))

    async def ack(
        self, batch: TrainingFrame, version: int, *, key: str | None = None
    ) -> httpx.Response:
        """Settle a training batch with a version."""
        lease = batch.manifest.lease
        assert lease is not None
        body = {
            "fence": lease.fence,
            "policy_version": version,
            "weights_uri": f"file:///weights/v{version}",
            "metrics": {"loss": 0.25},
        }
        return await self.post(f"/v1/training-batches/{lease.id}/ack", body, key=key)

    async def acked(self, batch: TrainingFrame, version: int) -> AckReceipt:
        """The receipt of an ack that must be taken."""
        return parse(await self.ack(batch, version), AckReceipt)

    async def announced(self, run_id: str, version: int, *, key: str | None = None) -> AckReceipt:
        """Announce a version of a curriculum-only run."""
        body = {"policy_version": version}
        response = await self.post(f"/v1/runs/{run_id}/policy-versions", body, key=key)
        return parse(response, AckReceipt)


def frame(response: httpx.Response) -> TrainingFrame:
    """The frame of an answer."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == FRAME_MEDIA_TYPE
    manifest, bodies = unpack_frame(response.content)
    return TrainingFrame(manifest, [bytes(body) for body in bodies])


@asynccontextmanager
async def sampler_app(database_url: str, redis_url: str, **settings: object) -> AsyncIterator[Api]:
    """A started replica and the way to call it."""
    made = Settings.model_validate(
        {"database_url": database_url, "redis_url": redis_url, **settings}
    )
    app = create_app(made)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
            api = Api(http)
            await wait_until(lambda: _ready(api), what="the replica is ready")
            yield api


async def _ready(api: Api) -> bool:
    return (await api.get("/readyz")).status_code == 200


def query(database_url: str, sql: str, *arguments: object) -> list[tuple[object, ...]]:
    """Rows of the sampler's database."""
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        return connection.execute(sql.encode(), arguments).fetchall()
