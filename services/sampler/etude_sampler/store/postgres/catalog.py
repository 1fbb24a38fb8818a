"""Datasets and tasks in PostgreSQL. Runs and idempotency keys: `runs`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from etude_proto.v1 import Split, TaskCreate, task_id
from etude_sampler.datasets.features import encode_features

from ...errors import DatasetNotFound, DependencyUnavailable
from ...ports.catalog import DatasetRow, TaskRow
from .drawable import PostgresDrawable
from .engine import outages, raw, transaction
from .migrate import is_behind
from .runs import PostgresRuns
from .tables import datasets, tasks

_READ_TASKS = (
    "SELECT ordinal, id, source, subtasks, body, aids, features "
    "FROM tasks WHERE dataset_id = $1 AND"
)


def encode_task(task: TaskCreate, *, ordinal: int, identifier: str) -> bytes:
    """The wire form of a stored task (`etude_proto.v1.Task`), sent as it is ever after."""
    unshown = {"aids"} if task.environment is not None else {"aids", "environment"}
    shown = task.model_dump(mode="json", exclude=unshown)
    content = {"id": identifier, "ordinal": ordinal, **shown}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def encode_aids(task: TaskCreate) -> bytes | None:
    """A task's aids as JSON, without what is not given; None if there are none."""
    if task.aids is None:
        return None
    return task.aids.model_dump_json(exclude_defaults=True).encode()


class PostgresCatalog(PostgresDrawable, PostgresRuns):
    """All of `ports.catalog.Catalog`."""

    async def create_dataset(self, dataset_id: str, name: str) -> tuple[DatasetRow, bool]:
        """The dataset of that name, and whether it is new."""
        statement = (
            insert(datasets)
            .values(id=dataset_id, name=name)
            .on_conflict_do_nothing(index_elements=["name"])
            .returning(datasets.c.id)
        )
        async with transaction(self._engine) as connection:
            created = (await connection.execute(statement)).scalar_one_or_none()
            found = (
                created
                or (
                    await connection.execute(
                        sa.select(datasets.c.id).where(datasets.c.name == name)
                    )
                ).scalar_one()
            )
        return await self.get_dataset(found), created is not None

    async def get_dataset(self, dataset_id: str) -> DatasetRow:
        """One dataset with its counts. Raises `DatasetNotFound`."""
        here = sa.and_(datasets.c.id == dataset_id, datasets.c.deleted_at.is_(None))
        rows = await self._datasets(here, limit=1)
        if not rows:
            raise DatasetNotFound(f"no dataset {dataset_id!r}")
        return rows[0]

    async def list_datasets(self, *, after: str | None, limit: int) -> list[DatasetRow]:
        """Datasets by id."""
        here = sa.and_(datasets.c.id > (after or ""), datasets.c.deleted_at.is_(None))
        return await self._datasets(here, limit=limit)

    async def _datasets(self, where: sa.ColumnElement[bool], *, limit: int) -> list[DatasetRow]:
        async with transaction(self._engine) as connection:
            found = (
                await connection.execute(
                    sa.select(datasets).where(where).order_by(datasets.c.id).limit(limit)
                )
            ).all()
            counted = await connection.execute(
                sa.select(tasks.c.dataset_id, tasks.c.source, tasks.c.split, sa.func.count())
                .where(tasks.c.dataset_id.in_([row.id for row in found]))
                .group_by(tasks.c.dataset_id, tasks.c.source, tasks.c.split)
            )
            counts = counted.all()
        rows = []
        for row in found:
            mine = [(source, split, num) for ds, source, split, num in counts if ds == row.id]
            sources: dict[str, int] = {}
            for source, _, num in mine:
                sources[source] = sources.get(source, 0) + num
            num_train = sum(num for _, split, num in mine if split == Split.TRAIN)
            num_held_out = sum(num for _, split, num in mine if split == Split.HELD_OUT)
            rows.append(
                DatasetRow(
                    row.id,
                    row.name,
                    num_train=num_train,
                    num_held_out=num_held_out,
                    sources=dict(sorted(sources.items())),
                    created_at=row.created_at,
                )
            )
        return rows

    async def add_tasks(self, dataset_id: str, new: Sequence[TaskCreate]) -> int:
        """Append the tasks not yet in the dataset, in order, under its row lock."""
        wanted: dict[str, TaskCreate] = {}
        for task in new:
            wanted.setdefault(task_id(task), task)
        ids = list(wanted)
        async with transaction(self._engine) as connection:
            await self._lock_dataset(connection, dataset_id)
            present = set(
                await connection.scalars(
                    sa.select(tasks.c.id).where(
                        tasks.c.dataset_id == dataset_id, tasks.c.id.in_(ids)
                    )
                )
            )
            first = await connection.scalar(
                sa.select(datasets.c.num_tasks).where(datasets.c.id == dataset_id)
            )
            assert first is not None
            fresh = [identifier for identifier in ids if identifier not in present]
            if fresh:
                rows = [
                    (
                        dataset_id,
                        first + i,
                        identifier,
                        wanted[identifier].split.value,
                        wanted[identifier].source,
                        list(wanted[identifier].subtasks),
                        encode_task(wanted[identifier], ordinal=first + i, identifier=identifier),
                        encode_aids(wanted[identifier]),
                        encode_features(wanted[identifier]),
                    )
                    for i, identifier in enumerate(fresh)
                ]
                driver = (await connection.get_raw_connection()).driver_connection
                assert isinstance(driver, asyncpg.Connection)
                await driver.copy_records_to_table(
                    "tasks", records=rows, columns=[column.name for column in tasks.c]
                )
                await connection.execute(
                    sa.update(datasets)
                    .where(datasets.c.id == dataset_id)
                    .values(num_tasks=first + len(fresh))
                )
        return len(fresh)

    async def _lock_dataset(self, connection: AsyncConnection, dataset_id: str) -> None:
        locked = await connection.scalar(
            sa.select(datasets.c.id)
            .where(datasets.c.id == dataset_id, datasets.c.deleted_at.is_(None))
            .with_for_update()
        )
        if locked is None:
            raise DatasetNotFound(f"no dataset {dataset_id!r}")

    async def tasks_by_ordinal(self, dataset_id: str, ordinals: Sequence[int]) -> list[TaskRow]:
        """Tasks, in any order; part of every draw, hence on the driver itself."""
        return await self._tasks(f"{_READ_TASKS} ordinal = ANY($2::int[])", dataset_id, ordinals)

    async def tasks_by_id(self, dataset_id: str, ids: Sequence[str]) -> list[TaskRow]:
        """Tasks, in any order; unknown ids are absent."""
        return await self._tasks(f"{_READ_TASKS} id = ANY($2::text[])", dataset_id, ids)

    async def _tasks(
        self, statement: str, dataset_id: str, wanted: Sequence[int] | Sequence[str]
    ) -> list[TaskRow]:
        async with raw(self._engine) as connection:
            found = await connection.fetch(statement, dataset_id, list(wanted))
        return [
            TaskRow(
                *(r["ordinal"], r["id"], r["source"], tuple(r["subtasks"]), r["body"]),
                aids=r["aids"] or b"",
                features=r["features"] or b"",
            )
            for r in found
        ]

    async def ping(self) -> str:
        """Revision of the schema."""
        async with outages(), self._engine.connect() as connection:
            revision = await connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if is_behind(revision):
            raise DependencyUnavailable(f"the schema is at {revision}: run `etude migrate`")
        return str(revision)
