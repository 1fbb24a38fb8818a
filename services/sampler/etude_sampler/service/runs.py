"""Datasets and runs: create, list, change, pause. Creating a run loads its lanes."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterable
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import ValidationError

from etude_proto.v1 import (
    Dataset,
    DatasetCreate,
    DatasetPage,
    ForkedFrom,
    ImportReceipt,
    LimitsUpdate,
    Rebuild,
    RowError,
    Run,
    RunCreate,
    RunLimits,
    RunPage,
    RunStatus,
    RunUpdate,
    TaskCreate,
)
from etude_sampler.curriculum import build, start_state
from etude_sampler.curriculum.faults import pointer

from ..errors import PayloadInvalid, Rebuilding, RevisionMismatch
from ..ports.catalog import DatasetRow, OnlyRuns, RunRow
from .identifiers import new_dataset_id, run_id_of
from .loading_views import last_rebuild, progress
from .rebuild import Rebuilder
from .resolving import fit, resolve_curriculum
from .steps import Ground

_IMPORT_TASKS, _IMPORT_BYTES = 2000, 8 << 20
"""Most tasks, and about the most bytes, of one transaction of an import (our choice)."""
_MAX_ERRORS = 1000


def changed(limits: RunLimits, change: LimitsUpdate | None) -> RunLimits:
    """A run's limits with what a caller gives; the rest stays. Raises `PayloadInvalid`."""
    try:
        return limits if change is None else change.applied_to(limits)
    except ValidationError as error:
        raise PayloadInvalid.at("/limits", error.errors()[0]["msg"]) from error


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def dataset_view(row: DatasetRow) -> Dataset:
    """A dataset as the wire shows it."""
    return Dataset(
        id=row.id,
        name=row.name,
        num_tasks=row.num_train + row.num_held_out,
        num_train=row.num_train,
        num_held_out=row.num_held_out,
        sources=row.sources,
        created_at=iso(row.created_at),
    )


def run_view(row: RunRow) -> Run:
    """A run as the wire shows it."""
    spec = row.spec
    return Run(
        id=row.id,
        name=row.name,
        dataset_id=spec.dataset_id,
        status=row.status,
        mode=spec.mode,
        curriculum=spec.curriculum,
        resolved=row.resolved,
        group_size=spec.group_size,
        seed=spec.seed,
        reward=spec.reward,
        credit=spec.credit,
        limits=spec.limits,
        sources=spec.sources,
        num_tasks=row.num_tasks,
        policy_version=row.policy_version,
        weights_uri=row.weights_uri,
        epoch=row.epoch,
        revision=row.revision,
        last_rebuild=last_rebuild(row),
        created_at=iso(row.created_at),
        forked_from=None if row.forked_from is None else ForkedFrom.model_validate(row.forked_from),
    )


class Datasets:
    """Datasets and their tasks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def create(self, body: DatasetCreate) -> tuple[Dataset, bool]:
        """The dataset of that name, and whether it is new."""
        row, created = await self._ground.catalog.create_dataset(new_dataset_id(), body.name)
        return dataset_view(row), created

    async def get(self, dataset_id: str) -> Dataset:
        """Raises `DatasetNotFound`."""
        return dataset_view(await self._ground.catalog.get_dataset(dataset_id))

    async def page(self, *, after: str | None, limit: int) -> tuple[DatasetPage, str | None]:
        """Datasets by id, and the id to go on after."""
        rows = await self._ground.catalog.list_datasets(after=after, limit=limit + 1)
        last = rows[limit - 1].id if len(rows) > limit else None
        views = [dataset_view(row) for row in rows[:limit]]
        return DatasetPage(items=views, next_cursor=None), last

    async def add_tasks(self, dataset_id: str, lines: AsyncIterable[bytes]) -> ImportReceipt:
        """Import NDJSON lines as they arrive; a bad line is reported, the others are stored."""
        await self._ground.catalog.get_dataset(dataset_id)
        number = num_lines = num_created = num_good = num_rejected = size = 0
        errors: list[RowError] = []
        good: list[TaskCreate] = []
        async for line in lines:
            number += 1
            if not line.strip():
                continue
            num_lines += 1
            try:
                good.append(TaskCreate.model_validate_json(line, strict=True))
            except ValidationError as error:
                num_rejected += 1
                errors += row_errors(error, number)[: _MAX_ERRORS - len(errors)]
            size += len(line)
            if len(good) >= _IMPORT_TASKS or size >= _IMPORT_BYTES:
                num_created += await self._ground.catalog.add_tasks(dataset_id, good)
                num_good += len(good)
                good, size = [], 0
        if good:
            num_created += await self._ground.catalog.add_tasks(dataset_id, good)
            num_good += len(good)
        return ImportReceipt(
            dataset_id=dataset_id,
            num_lines=num_lines,
            num_created=num_created,
            num_existing=num_good - num_created,
            num_rejected=num_rejected,
            errors=errors,
        )


def row_errors(error: ValidationError, line: int) -> list[RowError]:
    """The faults of one line, each with a JSON pointer."""
    return [
        RowError(
            line=line,
            pointer=pointer(*fault["loc"]),
            detail=fault["msg"],
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


class Runs:
    """Runs."""

    def __init__(self, ground: Ground, rebuilder: Rebuilder) -> None:
        self._ground = ground
        self._rebuilder = rebuilder

    async def create(self, spec: RunCreate, *, call: str) -> Run:
        """Resolve the curriculum, store the run, load its lanes.

        Args:
            spec: the run as asked for.
            call: what makes this call the same as an earlier one; a retry finds its run.

        Raises:
            DatasetNotFound: no such dataset.
            PayloadInvalid: a curriculum field is wrong (named), or no task can be drawn.
        """
        catalog = self._ground.catalog
        await catalog.get_dataset(spec.dataset_id)
        resolved, num_tasks = await resolve_curriculum(catalog, spec)
        curriculum = build(resolved)
        state = start_state(curriculum)
        row = RunRow(
            id=run_id_of(call),
            name=spec.name,
            status=RunStatus.ACTIVE,
            spec=spec,
            resolved=resolved,
            secret=secrets.token_bytes(32),
            num_tasks=num_tasks,
            epoch=0,
            revision=1,
            policy_version=0,
            weights_uri=spec.weights_uri,
            folded_seq=0,
            allocator_state=json.dumps(state.to_json()),
            totals={},
            created_at=datetime.now(UTC),
        )
        stored = await catalog.create_run(row)
        await self._rebuilder.ensure(stored.id, wait=True)
        return run_view(await catalog.get_run(stored.id))

    async def get(self, run_id: str) -> Run:
        """Raises `RunNotFound`."""
        run = run_view(await self._ground.catalog.get_run(run_id))
        return run.model_copy(update={"loading": await progress(self._ground, run_id)})

    async def page(
        self, *, after: str | None, limit: int, only: OnlyRuns | None = None
    ) -> tuple[RunPage, str | None]:
        """Runs by id, and the id to go on after; `only` some, by id or name."""
        rows = await self._ground.catalog.list_runs(after=after, limit=limit + 1, only=only)
        last = rows[limit - 1].id if len(rows) > limit else None
        return RunPage(items=[run_view(row) for row in rows[:limit]], next_cursor=None), last

    async def update(self, run_id: str, body: RunUpdate, *, revision: int) -> Run:
        """Change name or limits; a retry whose first try got as far as PostgreSQL ends well.

        Raises:
            RevisionMismatch: the run is at another revision.
            PayloadInvalid: the limits leave no room for the run's curriculum.
        """
        row = await self._ground.catalog.get_run(run_id)
        limits, name = changed(row.spec.limits, body.limits), body.name or row.name
        if row.revision != revision + 1 or (limits, name) != (row.spec.limits, row.name):
            spec = row.spec.model_copy(update={"limits": limits})
            fit(row.resolved, spec)
            row = await self._ground.catalog.update_run(
                run_id, spec=spec, name=name, status=row.status, revision=revision
            )
        return await self._pushed(row)

    async def rebuild(self, run_id: str) -> Rebuild:
        """Load a run's hot state anew, now. Raises `RunNotFound`, `Rebuilding`."""
        await self._ground.catalog.get_run(run_id)
        await self._rebuilder.rebuild(run_id)
        done = last_rebuild(await self._ground.catalog.get_run(run_id))
        assert done is not None, "it was stored"
        return done

    async def set_status(self, run_id: str, status: RunStatus) -> Run:
        """Pause or resume; live leases go on."""
        while True:
            row = await self._ground.catalog.get_run(run_id)
            if row.status is status:
                return await self._pushed(row)
            try:
                row = await self._ground.catalog.update_run(
                    run_id, spec=row.spec, name=row.name, status=status, revision=row.revision
                )
            except RevisionMismatch:
                continue
            return await self._pushed(row)

    async def _pushed(self, row: RunRow) -> Run:
        with suppress(Rebuilding):  # what is loaded, or pushed by the background, is what is stored
            await self.push(row.id)
        return run_view(row)

    async def push(self, run_id: str) -> None:
        """Bring limits and pause state to Redis; an older revision never replaces a newer one."""
        ground = self._ground
        ground.contexts.forget(run_id)
        await ground.on_run(run_id, lambda c: ground.races.configure(c.key, c.limits))
