"""Both arms of a run: summed from ledger rows when a version folds, shown with intervals.

Nothing here reads the ledger anew: a version keeps its sums in its summary, the run their total.
Pure; `versions` stores what `views` shows. The arithmetic is `statistics.arms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etude_proto import v1
from etude_proto.v1 import Arm
from etude_sampler.statistics.arms import (
    ArmSums,
    GroupFacts,
    Interval,
    difference,
    sum_groups,
)

from ..ports.ledger import BARE, LedgerRow

KEEP_VARIANCE = 1e-8
"""Variance of the rule reward above which a group is informative (algorithms.md 3.3)."""
FIGURES = ("informative_share", "success_rate", "mean_reward", "reward_per_1k_tokens")
_MEASURED = "measured_"
Totals = dict[str, dict[str, float]]
Sums = Mapping[Arm, ArmSums]


def arm_sums(groups: Sequence[LedgerRow]) -> dict[Arm, ArmSums]:
    """The sums of both arms over un-scaffolded groups."""
    facts: dict[Arm, list[GroupFacts]] = {arm: [] for arm in Arm}
    for row in groups:
        if (row.kind, row.level) == BARE:
            facts[_arm(row)].append(
                GroupFacts(
                    num_rollouts=row.num_valid,
                    num_success=row.num_success,
                    reward=row.reward_mean * row.num_valid,
                    num_tokens=row.num_tokens,
                    is_informative=row.reward_var > KEEP_VARIANCE,
                )
            )
    return {arm: sum_groups(found) for arm, found in facts.items()}


def arm_totals(totals: Totals, groups: Sequence[LedgerRow]) -> Totals:
    """Running totals of both arms with these groups added.

    The `measured_` ones are sums of `arm_sums`; a run that an older release has begun has them
    for fewer groups than it counts.
    """
    blank = {"groups": 0.0, "informative": 0.0, "reward": 0.0, "tokens": 0.0}
    arms = {arm.value: {**blank, **totals.get(arm.value, {})} for arm in Arm}
    for row in groups:
        arm = arms[_arm(row).value]
        arm["groups"] += 1
        arm["informative"] += row.reward_var > KEEP_VARIANCE
        arm["reward"] += row.reward_mean
        arm["tokens"] += row.num_tokens
    before = measured(totals)
    for one, added in arm_sums(groups).items():
        sums = (before[one] + added).to_json()
        arms[one.value] |= {_MEASURED + name: value for name, value in sums.items()}
    return arms


def measured(totals: Totals) -> dict[Arm, ArmSums]:
    """The sums that running totals hold."""
    return {
        arm: ArmSums.from_json(
            {
                name.removeprefix(_MEASURED): value
                for name, value in totals.get(arm.value, {}).items()
                if name.startswith(_MEASURED)
            }
        )
        for arm in Arm
    }


def summarised(groups: Sequence[LedgerRow]) -> dict[str, dict[str, float]]:
    """What a version's summary keeps of its arms."""
    return {arm.value: sums.to_json() for arm, sums in arm_sums(groups).items()}


def kept(summary: Mapping[str, object]) -> dict[Arm, ArmSums] | None:
    """The sums of a version's summary; None if an older release has folded it."""
    found = summary.get("arms")
    if not isinstance(found, dict):
        return None
    return {arm: ArmSums.from_json(found.get(arm.value, {})) for arm in Arm}


def added(parts: Sequence[Sums]) -> dict[Arm, ArmSums]:
    """The sums of several versions."""
    return {arm: sum((part[arm] for part in parts), ArmSums()) for arm in Arm}


def arms_view(sums: Sums, *, num_versions: int) -> v1.ArmsView:
    """Both arms and their difference."""
    control, curriculum = sums[Arm.CONTROL], sums[Arm.CURRICULUM]
    return v1.ArmsView(
        num_versions=num_versions,
        control=_figures(control),
        curriculum=_figures(curriculum),
        gap=v1.ArmGap(
            **{
                name: _shown(difference(getattr(curriculum, name), getattr(control, name)))
                for name in FIGURES
            }
        ),
    )


def _figures(sums: ArmSums) -> v1.ArmFigures:
    return v1.ArmFigures(
        num_groups=int(sums.num_groups),
        num_rollouts=int(sums.num_rollouts),
        num_tokens=int(sums.num_tokens),
        moments=v1.ArmMoments(**sums.to_json()),
        **{name: _shown(getattr(sums, name)) for name in FIGURES},
    )


def _shown(one: Interval) -> v1.Interval:
    return v1.Interval(mean=one.mean, low=one.low, high=one.high)


def _arm(row: LedgerRow) -> Arm:
    """Lane 0 is `uniform`, the control arm."""
    return Arm.CONTROL if row.lane == 0 else Arm.CURRICULUM
