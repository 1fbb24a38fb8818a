"""One task of a run: why it has its weight. Lists of tasks: `exploring`."""

from __future__ import annotations

import json

import numpy as np

from etude_proto.v1 import (
    LedgerEntry,
    PredictionsReceipt,
    PredictionsRequest,
    ProblemItem,
    Task,
    TaskView,
    WeightTerm,
)
from etude_proto.v1 import (
    TaskStatistics as TaskStatisticsView,
)
from etude_sampler.curriculum import Seeing
from etude_sampler.statistics import TaskStatistics, empty

from ..errors import NotFound, Rebuilding, TaskNotFound
from ..ports.catalog import TaskRow
from ..ports.ledger import BARE, LedgerRow, StatisticsRows
from .context import RunContext
from .entering import UNIFORM_MICRO, unpack_records
from .pooling import value_explained
from .runs import iso
from .steps import Ground
from .traits import features_of, members

_RECENT = 20


def statistics_view(context: RunContext, rows: StatisticsRows, i: int) -> TaskStatisticsView:
    """One row of statistics as the wire shows it."""
    key, values = rows.keys[i], rows.values
    names = context.curriculum.subtasks

    def components(row: np.ndarray) -> dict[str, float]:
        return {n: float(x) for n, x in zip(names, row, strict=True) if not np.isnan(x)}

    return TaskStatisticsView(
        scaffold_kind=key.kind,
        scaffold_level=key.level,
        num_groups=int(values.n_N[i]),
        num_successes=float(values.s_N[i]),
        num_failures=float(values.f_N[i]),
        success_ema=float(values.ema_N[i]),
        streak_easy=int(values.z_easy_N[i]),
        streak_hard=int(values.z_hard_N[i]),
        mean_abs_advantage=float(values.abs_a_N[i]),
        component_means=components(values.m_NK[i]),
        component_variances=components(values.v_NK[i]),
        reward_mean=float(values.reward_mean_N[i]),
        reward_variance=float(values.reward_var_N[i]),
        full_visits=int(values.full_N[i]),
        last_policy_version=max(0, int(values.last_N[i])),
    )


def ledger_view(context: RunContext, row: LedgerRow) -> LedgerEntry:
    """One ledger row as the wire shows it."""
    outcomes = json.loads(row.outcomes)
    return LedgerEntry(
        apply_seq=row.apply_seq,
        lease_id=row.lease_id,
        scaffold_kind=row.kind,
        scaffold_level=row.level,
        number=row.number,
        verdict=row.verdict,
        policy_version=row.policy_version,
        lane=context.curriculum.lane_name(row.lane),
        created_at="" if row.created_at is None else iso(row.created_at),
        rewards=outcomes.get("reward", []),
        successes=outcomes.get("success", []),
        components={
            name: [0.0 if value is None else value for value in values]
            for name, values in outcomes.get("components", {}).items()
        },
        finish_reasons=outcomes.get("finish_reason", []),
        engine=outcomes.get("engine"),
    )


class TaskViews:
    """Tasks of a run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def one(self, run_id: str, task_id: str) -> TaskView:
        """One task: statistics, weights and their reasons, last groups.

        Raises:
            TaskNotFound: not in the run's dataset.
        """
        ground = self._ground
        context = await ground.contexts.refresh(run_id)
        rows = await ground.tasks.by_ids(context.row.spec.dataset_id, [task_id])
        if task_id not in rows:
            raise TaskNotFound(f"no task {task_id!r} in this run")
        task = rows[task_id]
        found = await ground.ledger.statistics(run_id, [task.ordinal], context.shape)

        async def hot(c: RunContext) -> tuple[bytes | None, bool]:
            (record,) = await ground.races.entries(c.key, [task.ordinal])
            return record, await ground.races.is_waiting(c.key, task.ordinal)

        try:
            record, waiting = await ground.on_run(run_id, hot)
        except Rebuilding:
            record, waiting = None, False
        recent = await ground.ledger.recent(run_id, task.ordinal, _RECENT)
        leased = record is not None and unpack_records([record])[1][0, 0] > 0
        state = "waiting" if waiting else "leased" if leased else "parked"
        bare, budget = _bare(context, found), context.curriculum.budget
        return TaskView(
            task=Task.model_validate_json(task.body),
            state=state,
            hard=_hard(context, _bare(context, found)),
            statistics=[statistics_view(context, found, i) for i in range(len(found.keys))],
            weights=_weights(context, task, record=record, waiting=waiting, stats=bare),
            prediction=await ground.ledger.prediction(run_id, task.ordinal),
            recent=[ledger_view(context, row) for row in recent],
            budget=None if budget is None else budget.explain(bare),
            pool=await value_explained(ground, context, task.ordinal),
        )

    async def trajectories(self, run_id: str, task_id: str, lease_id: str) -> bytes:
        """A group's trajectories, unread.

        Raises:
            TaskNotFound: not in the run's dataset.
            NotFound: they were trained on, dropped, or never there.
        """
        context = await self._ground.contexts.get(run_id)
        rows = await self._ground.tasks.by_ids(context.row.spec.dataset_id, [task_id])
        if task_id not in rows:
            raise TaskNotFound(f"no task {task_id!r} in this run")
        group_id = f"{lease_id}:{rows[task_id].ordinal}"

        async def hot(c: RunContext) -> bytes | None:
            return await self._ground.races.trajectories(c.key, group_id)

        body = await self._ground.on_run(run_id, hot)
        if body is None:
            raise NotFound("the trajectories of this group are not there: trained on, or dropped")
        return body

    async def predict(self, run_id: str, body: PredictionsRequest) -> PredictionsReceipt:
        """Store value predictions. Raises `TaskNotFound` naming the unknown ones."""
        ground = self._ground
        context = await ground.contexts.get(run_id)
        ids = [one.task_id for one in body.predictions]
        rows = await ground.tasks.by_ids(context.row.spec.dataset_id, ids)
        faults = [
            ProblemItem(pointer=f"/predictions/{i}/task_id", detail=f"no task {name!r}")
            for i, name in enumerate(ids)
            if name not in rows
        ]
        if faults:
            raise TaskNotFound("some predictions name unknown tasks", errors=faults)
        latest = {rows[one.task_id].ordinal: one.value for one in body.predictions}
        await ground.ledger.store_predictions(
            run_id,
            ordinals=list(latest),
            values=np.array(list(latest.values()), dtype=np.float64),
            version=body.policy_version,
        )
        return PredictionsReceipt(num_stored=len(latest))


def _hard(context: RunContext, stats: TaskStatistics) -> str | None:
    hard = context.curriculum.hard
    return None if hard is None else hard.explain(stats.x_NE[0])


def _bare(context: RunContext, found: StatisticsRows) -> TaskStatistics:
    for i, key in enumerate(found.keys):
        if (key.kind, key.level) == BARE:
            return found.values.select(slice(i, i + 1))
    return empty(1, context.num_subtasks, context.shape.fresh)


def _weights(
    context: RunContext,
    task: TaskRow,
    *,
    record: bytes | None,
    waiting: bool,
    stats: TaskStatistics,
) -> list[WeightTerm]:
    terms = [
        WeightTerm(
            lane=context.curriculum.lanes[0],
            weight=UNIFORM_MICRO / 1e6,
            in_lane=waiting,
            explanation="every waiting task has weight 1 in the floor and control arm",
        )
    ]
    held = None if record is None else unpack_records([record])[1][0]
    weigher, features_1F = context.curriculum.weigher, features_of(context.curriculum, [task])
    if features_1F is not None and isinstance(weigher, Seeing):
        weigher = weigher.seeing(features_1F)
    for k, name in enumerate(context.curriculum.subtasks):
        if name not in members(context.curriculum, task):
            continue
        terms.append(
            WeightTerm(
                lane=name,
                weight=0.0 if held is None else float(held[k + 1]) / 1e6,
                in_lane=waiting,
                explanation=weigher.explain(stats, k, context.row.policy_version),
            )
        )
    return terms
