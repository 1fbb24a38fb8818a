"""Two replicas of the sampler's services in this process, on real servers, which crash to order.

No HTTP and no background jobs: the stateful test decides what happens, and when. A crash is an
exception raised between two steps of a call, as the death of the process would end it; the next
call goes to either replica.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import psycopg
from redis import Redis

from etude_proto.v1 import CurriculumConfig, Run, RunCreate, RunLimits, RunMode, TaskCreate
from etude_sampler.app import connected
from etude_sampler.service.draining import drain
from etude_sampler.service.sampler import Sampler
from etude_sampler.settings import Settings

from .workload import task

When = Literal["before", "after"]
LIMITS = RunLimits(
    training_batch_groups=3,
    cap_groups=9,
    max_staleness=1,
    leases_per_worker=3,
    cargo_bytes=1 << 16,
    max_group_bytes=1 << 12,
    max_batch_tasks=8,
)
NUM_TASKS = 12


class Crash(Exception):
    """The process died here."""


@dataclass(slots=True)
class Trap:
    """Where the next crash is, if anywhere."""

    at: tuple[str, When] | None = None

    def meet(self, step: str, when: When) -> None:
        """Crash here if it was ordered."""
        if self.at == (step, when):
            self.at = None
            raise Crash(f"{when} {step}")


class Crashing:
    """A port whose every step may be the last."""

    def __init__(self, port: object, trap: Trap) -> None:
        self._port, self._trap = port, trap

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        call: Callable[..., Awaitable[object]] = found
        trap = self._trap

        async def step(*given: object, **named: object) -> object:
            trap.meet(name, "before")
            done = await call(*given, **named)
            trap.meet(name, "after")
            return done

        return step


@dataclass(slots=True)
class World:
    """The replicas, and what a test does past them."""

    replicas: Sequence[Sampler]
    trap: Trap
    database_url: str
    redis_url: str
    reader: psycopg.Connection[tuple[object, ...]]
    dataset_id: str = ""
    tasks: list[TaskCreate] = field(default_factory=list)

    def query(self, sql: str, *given: object) -> list[tuple[object, ...]]:
        """Rows, past the sampler."""
        return self.reader.execute(sql.encode(), given).fetchall()

    async def prepare(self) -> None:
        """The tasks of all runs."""
        catalog = self.replicas[0].ground.catalog
        row, _ = await catalog.create_dataset(f"ds_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex)
        self.dataset_id = row.id
        self.tasks = [task(number) for number in range(NUM_TASKS)]
        await catalog.add_tasks(row.id, self.tasks)

    async def create_run(self, mode: RunMode, seed: int, curriculum: CurriculumConfig) -> Run:
        """A run of its own."""
        spec = RunCreate(
            name="model",
            dataset_id=self.dataset_id,
            curriculum=curriculum,
            mode=mode,
            group_size=4,
            seed=seed,
            limits=LIMITS,
        )
        return await self.replicas[0].runs.create(spec, call=uuid.uuid4().hex)

    def _keys(self, redis: Redis, run_id: str) -> list[bytes]:
        return list(redis.scan_iter(match=f"etude:{{{run_id}}}:*", count=1000))

    def forget(self, run_id: str) -> None:
        """Redis loses all that it holds of a run."""
        with Redis.from_url(self.redis_url) as redis:
            redis.delete(*self._keys(redis, run_id))

    def leases(self, run_id: str) -> list[str]:
        """Prompt leases that Redis holds."""
        with Redis.from_url(self.redis_url) as redis:
            return [name.decode() for name in redis.zrange(f"etude:{{{run_id}}}:leases", 0, -1)]

    def run_out(self, run_id: str, lease_id: str, *, training: bool = False) -> None:
        """A lease's deadline passes."""
        name = "tleases" if training else "leases"
        with Redis.from_url(self.redis_url) as redis:
            redis.zadd(f"etude:{{{run_id}}}:{name}", {lease_id: 1}, xx=True)

    async def drain(self, run_id: str) -> None:
        """Move the whole decision log to PostgreSQL."""
        ground = self.replicas[0].ground
        while await drain(ground, await ground.contexts.get(run_id)):
            continue


@asynccontextmanager
async def world(database_url: str, redis_url: str) -> AsyncIterator[World]:
    """Replicas on real servers; crashes are ordered through `trap`."""
    trap = Trap()
    settings = Settings.model_validate(
        {"database_url": database_url, "redis_url": redis_url, "pool_size": 3}
    )
    plain = database_url.replace("+asyncpg", "", 1)
    with psycopg.connect(plain, autocommit=True) as reader:
        async with connected(settings) as first, connected(settings) as second:
            for sampler in (first, second):
                for port in ("races", "ledger"):
                    made = Crashing(getattr(sampler.ground, port), trap)
                    object.__setattr__(sampler.ground, port, made)
            made_world = World((first, second), trap, database_url, redis_url, reader)
            await made_world.prepare()
            yield made_world
