"""Policy versions: fold the groups since the last one, announce, refresh ageing weights.

The fold runs once per version, in PostgreSQL, in apply order, under the run's row lock; pushing
its result to Redis can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from etude_proto.v1 import AckReceipt, CheckpointMark
from etude_sampler.curriculum import (
    AllocatorState,
    FoldInput,
    bank_of,
    fold_state,
    importance,
    lane_shares,
)
from etude_sampler.statistics import Floats, Ints

from ..errors import LeaseSuperseded, VersionConflict
from ..ports.bank import ReplayLine
from ..ports.fence import epoch_of
from ..ports.ledger import BARE, FoldPlan, FoldView, LedgerRow, Receipted, ReportKey
from .arms import KEEP_VARIANCE, arm_totals, summarised
from .checkpointing import plan_with_version
from .context import RunContext, announced, named_weights
from .entering import pack_records, unpack_records
from .folding import notes_of
from .hard_states import with_run
from .hard_turns import turn
from .steps import Ground
from .traits import features_at
from .unseen import unseen_due
from .weighing import announced_version, weights_now

_REFRESH_CHUNK = 1000
_MISSED_VERSIONS = 16


def fold_input(
    context: RunContext,
    groups: Sequence[LedgerRow],
    num_acked: int,
    *,
    noted: Callable[[Sequence[int]], Floats],
    featured: Callable[[Sequence[int]], Floats],
) -> FoldInput:
    """Un-scaffolded groups of one version as arrays, in apply order.

    Args:
        context: the run.
        groups: its applied groups since the last fold.
        num_acked: training batches acked so far.
        noted: [N, E] notes of tasks, by ordinal, as they are now.
        featured: [N, F] features of tasks, by ordinal.
    """
    bare = [row for row in groups if (row.kind, row.level) == BARE]

    def array(name: str) -> Floats:
        packed = b"".join(getattr(row, name) for row in bare)
        return np.frombuffer(packed, dtype="<f8").reshape(len(bare), context.num_subtasks)

    def ints(name: str) -> Ints:
        return np.array([getattr(row, name) for row in bare], dtype=np.int64)

    mean_NK, stored_NK, new_NK = array("mean"), array("prev"), array("new")
    first_NK = np.isnan(stored_NK) & ~np.isnan(mean_NK)
    return FoldInput(
        mean_NK=mean_NK,
        prev_NK=np.where(first_NK, mean_NK, stored_NK),
        new_NK=new_NK,
        first_NK=first_NK,
        iota_N=importance(
            np.array([row.slot_probability for row in bare], dtype=np.float64),
            np.array([row.num_waiting for row in bare], dtype=np.float64),
        ),
        is_control_N=np.array([row.lane == 0 for row in bare], dtype=bool),
        num_acked_batches=num_acked,
        probability_N=np.array([row.slot_probability for row in bare], dtype=np.float64),
        ordinal_N=ints("ordinal"),
        num_valid_N=ints("num_valid"),
        num_success_N=ints("num_success"),
        reward_mean_N=np.array([row.reward_mean for row in bare], dtype=np.float64),
        reward_var_N=np.array([row.reward_var for row in bare], dtype=np.float64),
        x_NE=noted([row.ordinal for row in bare]),
        features_NF=featured([row.ordinal for row in bare]),
    )


def summarise_version(
    context: RunContext, groups: Sequence[LedgerRow], state: AllocatorState
) -> dict[str, object]:
    """What the history keeps of a version."""
    curriculum = context.curriculum
    names, num_valid = curriculum.subtasks, sum(row.num_valid for row in groups)
    packed = b"".join(row.mean for row in groups)
    mean_NK = np.frombuffer(packed, dtype="<f8").reshape(len(groups), len(names))
    seen_K = (~np.isnan(mean_NK)).sum(axis=0)
    total_K = np.nansum(mean_NK, axis=0)
    lanes: dict[str, int] = {}
    for row in groups:
        name = curriculum.lane_name(row.lane)
        lanes[name] = lanes.get(name, 0) + 1
    shares = lane_shares(curriculum, state)
    return {
        **({"pace": dict(state.pace)} if state.pace else {}),
        "num_groups": len(groups),
        "num_informative": sum(row.reward_var > KEEP_VARIANCE for row in groups),
        "mean_reward": sum(r.reward_mean for r in groups) / len(groups) if groups else None,
        "mean_components": {
            name: float(total_K[k] / seen_K[k]) for k, name in enumerate(names) if seen_K[k]
        },
        "success_rate": sum(r.num_success for r in groups) / num_valid if num_valid else None,
        **mastery_of(context, state),
        **mastery_error_of(context, state),
        "component_weights": named_weights(curriculum, state),
        "lane_shares": {n: float(s) for n, s in zip(curriculum.lanes, shares, strict=True)},
        "lane_groups": lanes,
        "num_tokens": sum(row.num_tokens for row in groups),
        "num_rollouts": num_valid,
        "arms": summarised(groups),
    }


def mastery_of(context: RunContext, state: AllocatorState) -> dict[str, dict[str, float]]:
    """Mastery by sub-task as the history keeps it; `mastery_now` only where it is tracked."""
    view = context.curriculum.allocator.view(state)
    now = {one.name: one.mastery_now for one in view if one.mastery_now is not None}
    return {
        "mastery": {one.name: one.mastery for one in view if one.mastery is not None},
        **({"mastery_now": now} if now else {}),
    }


def mastery_error_of(context: RunContext, state: AllocatorState) -> dict[str, dict[str, float]]:
    """Standard errors of mastery by sub-task, where there are any; for charts' bands."""
    view = context.curriculum.allocator.view(state)
    errors = {one.name: one.standard_error for one in view if one.standard_error is not None}
    return {"mastery_error": errors} if errors else {}


class Versions:
    """Fold, announce, refresh."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def commit(
        self,
        context: RunContext,
        key: ReportKey,
        *,
        version: int,
        weights_uri: str | None,
        metrics: dict[str, float],
        fence: int | None,
        mark: CheckpointMark | None = None,
        replays: Sequence[ReplayLine] = (),
    ) -> Receipted:
        """Fold and store a version; the encoded `AckReceipt`, or the stored one.

        Raises:
            VersionConflict: `version` is not the next one.
            LeaseSuperseded: `fence` is older than a settled training batch's, or of an old epoch.
        """

        def plan(view: FoldView) -> FoldPlan:
            if fence is not None and (fence <= view.trainer_fence or epoch_of(fence) != view.epoch):
                raise LeaseSuperseded("a later training batch was acked, or the epoch was raised")
            if version != view.policy_version + 1:
                raise VersionConflict(
                    f"the run is at version {view.policy_version}; the next one is "
                    f"{view.policy_version + 1}, not {version}"
                )
            before = AllocatorState.from_json(json.loads(view.allocator_state))
            folded = with_run(
                context,
                fold_input(
                    context,
                    view.groups,
                    version,
                    noted=lambda ordinals: notes_of(view.notes, ordinals, context.shape),
                    featured=lambda ordinals: features_at(
                        context.curriculum,
                        [view.features[one] for one in ordinals if one in view.features],
                    ),
                ),
                num_groups=len(view.groups),
                live=view.live,
            )
            state = fold_state(context.curriculum, before, folded)
            checkpoint = plan_with_version(
                context.row, mark, version=version, call=key.idempotency_key
            )
            receipt = AckReceipt(
                run_id=context.row.id,
                policy_version=version,
                num_groups=len(view.groups),
                component_weights=named_weights(context.curriculum, state),
                checkpoint_id=None if checkpoint is None else checkpoint.id,
            )
            return FoldPlan(
                policy_version=version,
                trainer_fence=view.trainer_fence if fence is None else fence,
                weights_uri=weights_uri,
                allocator_state=json.dumps(state.to_json()),
                totals=arm_totals(view.totals, view.groups),
                summary={
                    **summarise_version(context, view.groups, state),
                    **({"num_groups_replayed": len(replays)} if has_bank else {}),
                    "metrics": metrics,
                },
                receipt=receipt.model_dump_json().encode(),
                checkpoint=checkpoint,
                pool_size=None if hard is None else hard.pool_size,
                replays=replays,
            )

        has_bank = bank_of(context.curriculum.gate) is not None
        hard = context.curriculum.hard
        return await self._ground.ledger.commit_version(
            context.row.id,
            key,
            plan,
            with_notes=bool(context.shape.fresh),
            with_features=bool(context.curriculum.features),
            live_column=None if hard is None else hard.live_column,
        )

    async def announce(self, run_id: str) -> None:
        """Push the newest version to Redis, with the weights that age with it.

        A version pushed before changes nothing. The weights are moved before this returns, so
        that the same calls draw the same batches, whatever the background does meanwhile.
        """
        ground = self._ground
        ground.contexts.forget(run_id)

        async def step(context: RunContext) -> int:
            state = context.state()
            return await ground.races.announce(
                context.key,
                announced(context.row, context.curriculum, state),
                shares=[float(s) for s in lane_shares(context.curriculum, state)],
            )

        await ground.on_run(run_id, step)
        # A rebuild between the two weighs every task anew; the caller comes again for its receipt.
        await ground.on_run(run_id, lambda _: self.refresh(run_id))

    async def refresh(self, run_id: str, *, since: int | None = None) -> int:
        """Re-weigh (L4) the tasks whose weight changes with age at the version of today.

        Args:
            run_id: the run.
            since: also those of the versions after this one, if some were missed.

        Returns:
            The number of tasks that waited and were re-weighed.
        """
        ground = self._ground
        context = await ground.contexts.get(run_id)
        version = await announced_version(ground, context)
        first = version if since is None else max(since + 1, version - _MISSED_VERSIONS)
        ages = context.curriculum.weigher.refresh_ages
        seen = {at - age for at in range(first, version + 1) for age in ages if at >= age}
        ordinals = await ground.ledger.last_seen_at(run_id, sorted(seen)) if seen else []
        ordinals += await unseen_due(ground, context, first=first, version=version)
        applied = 0
        for begin in range(0, len(ordinals), _REFRESH_CHUNK):
            chunk = ordinals[begin : begin + _REFRESH_CHUNK]
            applied += await self._refresh_chunk(context, chunk, version)
        return applied + await turn(ground, run_id, first=first, version=version)

    async def _refresh_chunk(self, context: RunContext, ordinals: list[int], version: int) -> int:
        ground = self._ground
        records = await ground.races.entries(context.key, ordinals)
        pairs = [(o, r) for o, r in zip(ordinals, records, strict=True) if r is not None]
        if not pairs:
            return 0
        known = [ordinal for ordinal, _ in pairs]
        weights_NL = await weights_now(ground, context, known, version=version)
        entries_N, _ = unpack_records([record for _, record in pairs])
        items = list(zip(known, pack_records(entries_N, weights_NL), strict=True))
        return await ground.races.reweigh(context.key, items)
