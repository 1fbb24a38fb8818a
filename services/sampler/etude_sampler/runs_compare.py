"""Which of two runs learned more from as many rollouts: pure comparison of what the API shows.

The control arm draws uniformly, whatever the curriculum does, so its success estimates that of all
tasks in either run alike: the verdict rests on it. What the curriculum chose to draw does not
compare. Neighbours: `compare_cli` fetches and prints, `statistics.arms` has the intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from etude_proto.v1 import ArmFigures, HistoryPoint, TaskSummary
from etude_sampler.statistics.arms import ArmSums, Interval, difference, mean_of

from .runs_diff import Common

FEWEST_CONTROL = 30
"""Control groups that each run needs for a verdict by its control arm (our choice)."""
FEWEST_TASKS = 30
"""Tasks that both must have served for a verdict by pairs (our choice)."""
ALIKE = 0.1
"""Largest share by which the budgets may differ for a verdict by pairs (our choice)."""
NUM_BINS = 8
MEASURES = ("informative_share", "success_rate", "mean_reward", "reward_per_1k_tokens")


@dataclass(frozen=True, slots=True)
class Stretch:
    """One policy version of a run, by rollouts spent since the common moment."""

    policy_version: int
    begin: float
    end: float
    control: ArmSums
    curriculum: ArmSums

    @property
    def both(self) -> ArmSums:
        """Both arms together."""
        return self.control + self.curriculum


@dataclass(frozen=True, slots=True)
class Bin:
    """Both runs over the same stretch of rollouts; the second less the first."""

    begin: float
    end: float
    first_versions: tuple[int, ...]
    second_versions: tuple[int, ...]
    control_success: tuple[Interval, Interval]
    informative_share: tuple[Interval, Interval]
    mean_reward: tuple[Interval, Interval]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Tasks that both runs have served since the common moment."""

    num_tasks: int
    num_better: int
    """Where the second run's moving average of success is higher."""
    num_worse: int
    difference: Interval


@dataclass(slots=True)
class Comparison:
    """Everything that `etude runs compare` says; differences are the second less the first."""

    first: str
    second: str
    common: Common | None
    first_curve: list[Stretch]
    second_curve: list[Stretch]
    pairs: Pairs
    budget: float = field(init=False)
    """Rollouts since the common moment that both have spent."""

    def __post_init__(self) -> None:
        """The smaller total is the budget."""
        self.budget = min(spent(self.first_curve), spent(self.second_curve))

    def gaps(self, *, last: float = 1.0) -> dict[str, Interval]:
        """Differences over the last share of the budget: control arm, and all groups."""
        begin = self.budget * (1.0 - last)
        one = _within(self.first_curve, begin, self.budget)
        other = _within(self.second_curve, begin, self.budget)
        found = {f"control.{name}": _gap(_control(other), _control(one), name) for name in MEASURES}
        return found | {f"all.{name}": _gap(_both(other), _both(one), name) for name in MEASURES}

    def bins(self) -> list[Bin]:
        """The budget in equal stretches; a version counts where its middle lies."""
        width = self.budget / NUM_BINS
        found = []
        for number in range(NUM_BINS if self.budget else 0):
            begin, end = number * width, (number + 1) * width
            one = _within(self.first_curve, begin, end)
            other = _within(self.second_curve, begin, end)
            if not one or not other:
                continue
            found.append(
                Bin(
                    begin=begin,
                    end=end,
                    first_versions=tuple(part.policy_version for part in one),
                    second_versions=tuple(part.policy_version for part in other),
                    control_success=(_control(one).success_rate, _control(other).success_rate),
                    informative_share=(
                        _both(one).informative_share,
                        _both(other).informative_share,
                    ),
                    mean_reward=(_both(one).mean_reward, _both(other).mean_reward),
                )
            )
        return found

    def basis(self) -> tuple[str, Interval]:
        """What the verdict rests on, and the difference there."""
        inside = [
            _within(curve, 0.0, self.budget) for curve in (self.first_curve, self.second_curve)
        ]
        if min(_control(part).num_groups for part in inside) >= FEWEST_CONTROL:
            return "control", self.gaps()["control.success_rate"]
        totals = (spent(self.first_curve), spent(self.second_curve))
        alike = abs(totals[0] - totals[1]) <= ALIKE * max(totals)
        if alike and self.pairs.num_tasks >= FEWEST_TASKS:
            return "pairs", self.pairs.difference
        return "nothing", Interval(None, None, None)

    def verdict(self) -> str:
        """`better`, `worse` or `cannot tell`, of the second run."""
        _, gap = self.basis()
        if not gap.excludes_zero or gap.mean is None:
            return "cannot tell"
        return "better" if gap.mean > 0.0 else "worse"

    def line(self) -> str:
        """The verdict with its reason, in one line."""
        basis, gap = self.basis()
        reason = {
            "control": f"success of the control arm over the same {self.budget:,.0f} rollouts",
            "pairs": f"success on the {self.pairs.num_tasks} tasks that both served",
            "nothing": f"fewer than {FEWEST_CONTROL} control groups in one of them",
        }[basis]
        if gap.low is not None and gap.high is not None and gap.mean is not None:
            reason += f": {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
        words = {
            "better": f"{self.second} is better than {self.first}",
            "worse": f"{self.second} is worse than {self.first}",
            "cannot tell": f"cannot tell {self.second} from {self.first}",
        }
        return f"{words[self.verdict()]}: {reason}"

    def to_json(self) -> dict[str, object]:
        """For scripts."""
        basis, _ = self.basis()
        return {
            "verdict": self.verdict().replace(" ", "_"),
            "line": self.line(),
            "basis": basis,
            "first": self.first,
            "second": self.second,
            "common": None if self.common is None else asdict(self.common),
            "budget_rollouts": self.budget,
            "differences": {name: asdict(one) for name, one in self.gaps().items()},
            "differences_last_quarter": {
                name: asdict(one) for name, one in self.gaps(last=0.25).items()
            },
            "bins": [asdict(one) for one in self.bins()],
            "pairs": asdict(self.pairs),
            "curves": [
                [_stretch_json(part) for part in curve]
                for curve in (self.first_curve, self.second_curve)
            ],
        }


def curve_of(points: Iterable[HistoryPoint], *, after: int) -> list[Stretch]:
    """The versions above `after` with what they cost; those without arms only cost."""
    found, begin = [], 0.0
    for point in points:
        if point.policy_version <= after:
            continue
        blank = ArmSums()
        control = blank if point.arms is None else _sums(point.arms.control)
        curriculum = blank if point.arms is None else _sums(point.arms.curriculum)
        told = point.num_rollouts
        cost = (control + curriculum).num_rollouts if told is None else float(told)
        found.append(Stretch(point.policy_version, begin, begin + cost, control, curriculum))
        begin += cost
    return found


def pairs_of(first: Iterable[TaskSummary], second: Iterable[TaskSummary], *, after: int) -> Pairs:
    """Tasks served by both since version `after`, compared by their moving average of success."""
    mine: dict[str, float] = {one.id: ema for one in first if (ema := _ema(one, after)) is not None}
    gaps = [
        ema - mine[one.id]
        for one in second
        if one.id in mine and (ema := _ema(one, after)) is not None
    ]
    return Pairs(
        num_tasks=len(gaps),
        num_better=sum(gap > 0.0 for gap in gaps),
        num_worse=sum(gap < 0.0 for gap in gaps),
        difference=mean_of(gaps),
    )


def spent(curve: Sequence[Stretch]) -> float:
    """Rollouts of a curve."""
    return curve[-1].end if curve else 0.0


def _ema(task: TaskSummary, after: int) -> float | None:
    """A task's moving average, if it was served at version `after` or later."""
    stats = task.statistics
    return None if stats is None or stats.last_policy_version < after else stats.success_ema


def _sums(figures: ArmFigures) -> ArmSums:
    return ArmSums.from_json(figures.moments.model_dump())


def _within(curve: Sequence[Stretch], begin: float, end: float) -> list[Stretch]:
    """Versions whose middle lies in (begin, end]."""
    return [part for part in curve if begin < (part.begin + part.end) / 2.0 <= end]


def _control(parts: Sequence[Stretch]) -> ArmSums:
    return sum((part.control for part in parts), ArmSums())


def _both(parts: Sequence[Stretch]) -> ArmSums:
    return sum((part.both for part in parts), ArmSums())


def _gap(one: ArmSums, other: ArmSums, name: str) -> Interval:
    return difference(getattr(one, name), getattr(other, name))


def _stretch_json(part: Stretch) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {
        "policy_version": part.policy_version,
        "rollouts": part.end,
        "control_success": part.control.success_rate.mean,
    }
    return found | {name: getattr(part.both, name).mean for name in MEASURES}
