"""Comparing two runs: budgets, bins, what a verdict rests on, and that luck gives none."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.v1 import Arm, HistoryPage, HistoryPoint, TaskPage, TaskSummary
from etude_sampler.runs_compare import (
    FEWEST_CONTROL,
    Comparison,
    Pairs,
    curve_of,
    pairs_of,
)
from etude_sampler.service.arms import arms_view
from etude_sampler.statistics.arms import ArmSums, GroupFacts, Interval, sum_groups
from support.contract import example

NO_PAIRS = Pairs(0, 0, 0, Interval(None, None, None))


def sums(rng: np.random.Generator, num: int, skill: float) -> ArmSums:
    """Groups of 8 rollouts with beta-distributed chances of mean `skill`."""
    m = rng.binomial(8, rng.beta(2 * skill, 2 * (1 - skill), size=num))
    return sum_groups(GroupFacts(8, int(a), float(a), 400, 0 < a < 8) for a in m)


def points(
    seed: int, skills: list[float], *, control: int = 4, curriculum: int = 12
) -> list[HistoryPoint]:
    """One point a version, from version 1 on."""
    rng = np.random.default_rng(seed)
    base = HistoryPage.model_validate_json(example("HistoryPage")).items[0]
    found = []
    for version, skill in enumerate(skills, start=1):
        arms = {
            Arm.CONTROL: sums(rng, control, skill),
            Arm.CURRICULUM: sums(rng, curriculum, skill),
        }
        more = {
            "policy_version": version,
            "num_rollouts": 8 * (control + curriculum),
            "arms": arms_view(arms, num_versions=1),
        }
        found.append(base.model_copy(update=more))
    return found


def compared(
    first: list[HistoryPoint], second: list[HistoryPoint], *, pairs: Pairs = NO_PAIRS
) -> Comparison:
    return Comparison("a", "b", None, curve_of(first, after=0), curve_of(second, after=0), pairs)


def test_the_better_run_is_called_better_and_the_other_way_round() -> None:
    slow, fast = points(1, [0.3] * 40), points(2, [0.3 + 0.01 * n for n in range(40)])
    found = compared(slow, fast)
    assert found.basis()[0] == "control"
    assert (found.verdict(), compared(fast, slow).verdict()) == ("better", "worse")
    assert found.line().startswith("b is better than a: success of the control arm over the same")
    gap, late = found.gaps(), found.gaps(last=0.25)
    assert gap["control.success_rate"].mean is not None
    assert late["control.success_rate"].mean is not None
    assert late["control.success_rate"].mean > gap["control.success_rate"].mean
    written = found.to_json()
    assert (written["verdict"], written["basis"]) == ("better", "control")


@pytest.mark.no_cover
def test_equal_runs_are_told_apart_as_rarely_as_the_intervals_say() -> None:
    verdicts = [
        compared(points(seed, [0.4] * 10), points(seed + 1000, [0.4] * 10)).verdict()
        for seed in range(200)
    ]
    assert 0 < sum(verdict != "cannot tell" for verdict in verdicts) < 22, verdicts


def test_the_budget_is_what_both_have_spent() -> None:
    """The longer run's later, better versions do not count."""
    short, long = points(3, [0.3] * 20), points(4, [0.3] * 20 + [0.9] * 20)
    found = compared(short, long)
    assert found.budget == 20 * 128
    assert found.gaps() == compared(short, long[:20]).gaps()
    bins = found.bins()
    assert [one.end for one in bins] == pytest.approx([320.0 * n for n in range(1, 9)])
    versions = [v for one in bins for v in one.second_versions]
    assert versions == list(range(1, 21))
    assert compared([], long).bins() == []
    assert compared([], long).verdict() == "cannot tell"


def test_a_bin_that_one_run_has_no_version_in_is_left_out() -> None:
    coarse = points(5, [0.3] * 3, curriculum=124)
    fine = points(6, [0.3] * 24)
    found = compared(coarse, fine)
    assert found.budget == 3 * 1024
    assert len(found.bins()) == 3


def test_only_versions_after_the_common_moment_count() -> None:
    curve = curve_of(points(7, [0.5] * 6), after=4)
    assert [(part.policy_version, part.begin, part.end) for part in curve] == [
        (5, 0.0, 128.0),
        (6, 128.0, 256.0),
    ]


def test_what_older_releases_folded_costs_what_is_known_of_it() -> None:
    made = points(8, [0.5] * 2)
    old = made[0].model_copy(update={"arms": None, "num_rollouts": 64})
    unknown = made[1].model_copy(update={"num_rollouts": None})
    curve = curve_of([old, unknown], after=0)
    assert [part.end for part in curve] == [64.0, 64.0 + 128.0]
    assert curve[0].both == ArmSums()


def test_few_control_groups_leave_the_verdict_to_the_pairs() -> None:
    few = {"control": 0, "curriculum": 16}
    first, second = points(9, [0.4] * 8, **few), points(10, [0.4] * 8, **few)
    clear = Pairs(40, 35, 5, Interval(0.2, 0.1, 0.3))
    assert compared(first, second).basis()[0] == "nothing"
    assert compared(first, second).line().endswith("control groups in one of them")
    found = compared(first, second, pairs=clear)
    assert (found.basis()[0], found.verdict()) == ("pairs", "better")
    assert "on the 40 tasks that both served: +0.200" in found.line()
    longer = points(10, [0.4] * 10, **few)
    assert compared(first, longer, pairs=clear).verdict() == "cannot tell", "not the same budget"
    assert FEWEST_CONTROL > 0


def task(number: int, ema: float | None, last: int = 5) -> TaskSummary:
    found = TaskPage.model_validate_json(example("TaskPage")).items[0]
    assert found.statistics is not None
    stats = found.statistics.model_copy(
        update={"success_ema": ema or 0.0, "last_policy_version": last}
    )
    return found.model_copy(
        update={"id": f"task_{number}", "statistics": None if ema is None else stats}
    )


def test_pairs_are_tasks_that_both_served_since() -> None:
    first = [task(1, 0.5), task(2, 0.5), task(3, None), task(4, 0.5, last=1), task(5, 0.25)]
    second = [task(1, 0.75), task(2, 0.25), task(3, 0.9), task(4, 0.9), task(5, 0.5), task(6, 1.0)]
    found = pairs_of(first, second, after=2)
    assert (found.num_tasks, found.num_better, found.num_worse) == (3, 2, 1)
    assert found.difference.mean == pytest.approx(0.25 / 3)
