"""What the curriculum knows and did, for people and dashboards. Reading changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from etude_proto.v1 import (
    Arm,
    ArmsView,
    ArmView,
    BankView,
    Counts,
    CurriculumView,
    HardView,
    HistoryPage,
    HistoryPoint,
    LaneView,
    SubtaskView,
)
from etude_sampler.curriculum import lane_shares

from ..errors import Rebuilding
from ..ports.ledger import LedgerRow, VersionRow
from ..ports.races import LaneState, RaceState
from .arms import added, arm_sums, arm_totals, arms_view, kept, measured
from .banking import rule_of
from .context import RunContext
from .loading_views import progress
from .runs import iso
from .steps import Ground

RECENT_VERSIONS = 20
"""Versions of the recent arms, unless asked otherwise (our choice)."""


class CurriculumViews:
    """The curriculum's state and history."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._sizes: dict[str, dict[str, int]] = {}

    async def curriculum(self, run_id: str, *, window: int = RECENT_VERSIONS) -> CurriculumView:
        """The state now; recent arms over the newest `window` versions."""
        ground = self._ground

        async def step(context: RunContext) -> tuple[RunContext, RaceState]:
            return context, await ground.races.state(context.key)

        context, loading = await ground.contexts.refresh(run_id), None
        try:
            context, state = await ground.on_run(run_id, step)
        except Rebuilding:
            state, loading = _parked(context), await progress(ground, run_id)
        pending = await ground.ledger.since_fold(run_id, context.row.folded_seq)
        totals = arm_totals(context.row.totals, pending)
        num_parked = context.row.num_tasks - state.lanes[0].num_waiting - state.counters["n_leased"]
        return CurriculumView(
            run_id=run_id,
            policy_version=context.row.policy_version,
            subtasks=await self._subtasks(context),
            lanes=[
                LaneView(
                    name=name,
                    share=lane.share,
                    num_waiting=lane.num_waiting,
                    total_weight=lane.total_weight,
                    clock=lane.clock,
                    credit=lane.credit,
                )
                for name, lane in zip(context.curriculum.lanes, state.lanes, strict=True)
            ],
            arms=[arm_view(arm, totals[arm.value]) for arm in Arm],
            arms_recent=await self._recent(context, pending, window),
            arms_overall=arms_view(measured(totals), num_versions=context.row.policy_version),
            counts=_counts(context, state, num_parked),
            num_groups_applied=int(sum(total["groups"] for total in totals.values())),
            num_groups_late=await ground.ledger.num_late(run_id),
            parked_share=num_parked / context.row.num_tasks,
            loading=loading,
            hard=_hard(context),
            bank=await self._bank(context, state),
        )

    async def _bank(self, context: RunContext, state: RaceState) -> BankView | None:
        rule = rule_of(context)
        if rule is None:
            return None
        return BankView(
            num_groups=state.num_banked,
            max_groups=rule.num_groups,
            num_replayed=await self._ground.ledger.num_replayed(context.row.id),
        )

    async def _recent(
        self, context: RunContext, pending: Sequence[LedgerRow], window: int
    ) -> ArmsView:
        """Both arms over the newest versions, with what no version has folded yet."""
        after = context.row.policy_version - window
        rows = await self._ground.ledger.versions(context.row.id, after=after, limit=window)
        found = [sums for row in rows if (sums := kept(row.summary)) is not None]
        return arms_view(added([*found, arm_sums(pending)]), num_versions=len(found))

    async def _subtasks(self, context: RunContext) -> list[SubtaskView]:
        row = context.row
        if row.id not in self._sizes:
            self._sizes[row.id] = await self._ground.catalog.dataset_subtasks(
                row.spec.dataset_id, row.spec.sources, lanes_by=row.resolved.lanes_by
            )
        sizes = self._sizes[row.id]
        return [
            SubtaskView(
                name=one.name,
                mastery=one.mastery,
                standard_error=one.standard_error,
                mastery_now=one.mastery_now,
                now_error=one.now_error,
                threshold=one.threshold,
                prerequisite_factor=one.prerequisite_factor,
                deficit=one.deficit,
                component_weight=one.component_weight,
                num_tasks=sizes.get(one.name, 0),
                num_tasks_seen=one.num_tasks_seen,
            )
            for one in context.curriculum.allocator.view(context.state())
        ]

    async def history(
        self, run_id: str, *, after: int, limit: int
    ) -> tuple[HistoryPage, int | None]:
        """Versions above `after`, and the version to go on after."""
        await self._ground.contexts.get(run_id)
        rows = await self._ground.ledger.versions(run_id, after=after, limit=limit + 1)
        last = rows[limit - 1].version if len(rows) > limit else None
        return HistoryPage(items=[_point(row) for row in rows[:limit]], next_cursor=None), last


def _hard(context: RunContext) -> HardView | None:
    hard = context.curriculum.hard
    if hard is None:
        return None
    now = hard.now
    return HardView(
        round=now.round,
        num_groups=now.num_groups,
        num_hard=now.num_hard,
        num_parked=now.num_parked,
        num_due=now.num_due,
    )


def arm_view(arm: Arm, totals: Mapping[str, float]) -> ArmView:
    """One arm's totals."""
    groups = int(totals["groups"])
    return ArmView(
        arm=arm,
        num_groups=groups,
        num_informative=int(totals["informative"]),
        informative_share=totals["informative"] / groups if groups else None,
        mean_reward=totals["reward"] / groups if groups else None,
        num_tokens=int(totals["tokens"]),
    )


def _parked(context: RunContext) -> RaceState:
    """A run whose hot state is not there: its shares are known, and no task waits or is leased."""
    shares = lane_shares(context.curriculum, context.state())
    lanes = tuple(LaneState(float(share), 0.0, 0.0, 0.0, 0) for share in shares)
    return RaceState(lanes, defaultdict(int), 0, 0)


def _counts(context: RunContext, state: RaceState, num_parked: int) -> Counts:
    counters = state.counters
    return Counts(
        num_tasks=context.row.num_tasks,
        num_waiting=state.lanes[0].num_waiting,
        num_leased=counters["n_leased"],
        num_parked=num_parked,
        num_ready_groups=counters["n_ready"],
        num_training_groups=counters["n_training"],
        cargo_bytes=counters["cargo_bytes"],
        num_prompt_leases=state.num_prompt_leases,
        num_training_leases=state.num_training_leases,
        num_groups_drawn=counters["n_drawn"],
        num_expired=counters["n_expired"],
        num_purged=counters["n_purged"],
        num_evicted=counters["n_evicted"],
    )


def _point(row: VersionRow) -> HistoryPoint:
    sums = kept(row.summary)
    return HistoryPoint.model_validate(
        {
            "policy_version": row.version,
            "created_at": iso(row.created_at),
            "weights_uri": row.weights_uri,
            **row.summary,
            "arms": None if sums is None else arms_view(sums, num_versions=1),
        }
    )
