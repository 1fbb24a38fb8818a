"""The state machine of hard sampling: every row of algorithms.md 4.1 and each of its examples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etude_sampler.curriculum.hard.machine import (
    DUE,
    FEW_SHOT,
    FRESH,
    GUIDED,
    LIVE,
    PARKED,
    ZERO_ROUNDS,
    HardConstants,
    K,
    Visit,
    after_visit,
    owed,
    resolved,
    zeros_of,
)
from etude_sampler.curriculum.hard.pace import FREED_NONE, HardPace, census
from etude_sampler.statistics import Floats

CONSTANTS = HardConstants()


@dataclass
class Task:
    """One task on its way through rounds."""

    round: int = 0
    ordinal: int = 3
    freed: tuple[int, int] = FREED_NONE
    x: Floats = field(default_factory=lambda: np.array(FRESH))

    def bare(self, won: int, of: int) -> Task:
        """An un-scaffolded group."""
        return self._visit("none", 0, won, of)

    def guided(self, won: int, of: int, level: int) -> Task:
        """A group with demonstrations."""
        return self._visit(FEW_SHOT, level, won, of)

    def _visit(self, kind: str, level: int, won: int, of: int) -> Task:
        self.x = after_visit(
            self.x,
            Visit(self.ordinal, kind, level, num_valid=of, num_success=won),
            round_now=self.round,
            freed=self.freed,
            constants=CONSTANTS,
        )
        return self

    def end_round(self, num: int = 1) -> Task:
        """Some rounds end."""
        self.round += num
        return self

    @property
    def now(self) -> Floats:
        """The state [1, W] in the round of today."""
        found: Floats = resolved(
            self.x[None, :], round_now=self.round, freed=self.freed, constants=CONSTANTS
        )
        return found

    @property
    def k(self) -> float:
        """0 active, k hard, -1 parked."""
        return float(self.now[0, K])

    @property
    def probe(self) -> float:
        """Rollouts owed."""
        return float(owed(self.now, CONSTANTS)[0])

    @property
    def zeros(self) -> float:
        """Failures that count."""
        return float(zeros_of(self.now)[0])


def hard(k: int, *, round_now: int = 0) -> Task:
    """A task that has become HARD(k)."""
    task = Task(round_now).bare(0, 10)
    for level in range(2, k, -1):
        task.guided(9, 10, level)
    assert task.k == k
    return task


def test_an_unscaffolded_success_forgets_failures() -> None:
    task = Task().bare(0, 4).bare(1, 4)
    assert (task.k, task.zeros, task.x[LIVE]) == (0, 0, 0)


def test_ten_failures_make_a_task_hard() -> None:
    """Examples: 0/10; 0/4 and 0/4 stay active with 8."""
    assert Task().bare(0, 10).k == 2
    task = Task().bare(0, 4).bare(0, 4)
    assert (task.k, task.zeros) == (0, 8)
    assert task.bare(0, 2).k == 2


def test_at_a_rounds_end_a_probe_of_the_rest_is_owed() -> None:
    """Example: after 0/4, 0/4 a probe 0/2 makes it hard, 1/2 leaves it active."""
    task = Task().bare(0, 4).bare(0, 4)
    assert task.probe == 0
    assert task.end_round().probe == 2
    assert task.bare(0, 2).k == 2
    task = Task().bare(0, 4).bare(0, 4).end_round().bare(1, 2)
    assert (task.k, task.zeros, task.probe) == (0, 0, 0)
    assert Task().bare(0, 3).end_round().probe == 0
    assert Task().bare(0, 4).end_round().probe == 6
    assert Task().bare(0, 9).end_round().probe == 2, "a group of one is never folded"
    assert Task().bare(0, 10).end_round().probe == 0, "it is hard already"


def test_the_probe_waits_until_it_is_served_or_its_failures_are_too_old() -> None:
    task = Task().bare(0, 4)
    assert [task.end_round().probe for _ in range(4)] == [6, 6, 0, 0]
    assert (task.zeros, task.now[0, LIVE]) == (0, 0)


def test_old_failures_do_not_count() -> None:
    task = Task().bare(0, 4).end_round().bare(0, 3).end_round(2)
    assert task.zeros == 3
    assert task.bare(0, 6).k == 0
    task = Task().bare(0, 4).end_round(2).bare(0, 6)
    assert task.k == 2


def test_a_passed_visit_takes_a_demonstration_away() -> None:
    """Example: HARD(2) 5/10 -> HARD(1), 6/10 -> ACTIVE."""
    task = hard(2).guided(5, 10, 2)
    assert task.k == 1
    task.guided(6, 10, 1)
    assert (task.k, task.zeros, task.now[0, LIVE]) == (0, 0, 0)


def test_fewer_demonstrations_than_asked_for_pass_too() -> None:
    assert hard(2).guided(5, 10, 1).k == 0


def test_some_success_keeps_a_task_where_it_is() -> None:
    """Example: HARD(2) 3/10 -> HARD(2), and its zero rounds are forgotten."""
    task = hard(2).guided(0, 10, 2).end_round()
    assert task.now[0, ZERO_ROUNDS] == 1
    task.guided(3, 10, 2)
    assert (task.k, task.x[ZERO_ROUNDS], task.x[GUIDED]) == (2, 0, 0)


def test_a_round_without_success_gives_a_demonstration_back() -> None:
    """Example: HARD(1) 0/10 at the round's end -> HARD(2)."""
    task = hard(1).guided(0, 10, 1)
    assert task.k == 1
    assert task.end_round().k == 2
    short = hard(1).guided(0, 9, 1).end_round()
    assert short.k == 1, "nine are not enough"
    assert short.guided(0, 4, 1).end_round().k == 2, "they are counted on"


def test_two_such_rounds_park_it_and_three_later_it_is_back() -> None:
    """Example: HARD(2) 0/10 in rounds 7 and 8 -> PARKED, retried in round 11."""
    task = hard(2, round_now=7).guided(0, 10, 2).end_round().guided(0, 10, 2)
    assert (task.round, task.k) == (8, 2)
    states = [(task.end_round().round, task.k) for _ in range(4)]
    assert states == [(9, PARKED), (10, PARKED), (11, 2), (12, 2)]
    assert task.now[0, ZERO_ROUNDS] == 0


def test_any_unscaffolded_success_ends_it() -> None:
    for task in (hard(2), hard(1), hard(2).guided(0, 10, 2).end_round().guided(0, 10, 2)):
        task.end_round()
        assert task.k != 0
        assert task.bare(1, 4).k == 0
        assert task.zeros == 0


def test_a_parked_task_whose_lease_outlived_the_round() -> None:
    def parked() -> Task:
        return hard(2).guided(0, 10, 2).end_round().guided(0, 10, 2).end_round()

    assert parked().k == PARKED
    assert parked().bare(0, 4).k == PARKED
    assert parked().guided(0, 10, 2).k == PARKED
    assert parked().guided(4, 10, 2).k == PARKED
    assert parked().guided(5, 10, 2).k == 1


def test_rounds_that_begin_anew() -> None:
    """A fork with other constants has round 0 again: nobody waits for the old one to come."""
    rows = np.array([FRESH] * 2)
    rows[:, [LIVE, 2]] = [1, 9]
    rows[0, [K, 8]], rows[1, K] = [PARKED, 8], 2
    one = replace(CONSTANTS, k_max=1)
    now = resolved(rows, round_now=0, freed=FREED_NONE, constants=one)
    assert now[:, K].tolist() == [PARKED, 1]
    later = resolved(now, round_now=3, freed=FREED_NONE, constants=one)
    assert later[:, K].tolist() == [1, 1]


def test_groups_of_other_scaffolds_change_nothing() -> None:
    task = hard(2)
    before = task.x.copy()
    assert np.array_equal(task._visit("hints", 1, 8, 8).x, before)
    assert np.array_equal(task._visit(FEW_SHOT, 0, 8, 8).x, before)
    fresh = Task().guided(8, 8, 2)
    assert np.array_equal(fresh.x, np.array(FRESH)), "an active task is not guided"


def test_the_oldest_parked_come_back_above_the_limit() -> None:
    rows = np.array([FRESH] * 5)
    rows[:, LIVE], rows[:, K], rows[:, 2] = 1, PARKED, 6
    rows[:, 8], rows[:, 9] = [5, 4, 5, 5, 4], [1, 9, 3, 2, 4]
    found = census(rows, HardPace(round=6), max_parked=2, constants=CONSTANTS)
    assert (found.freed, found.num_parked, found.num_hard) == ((5, 1), 2, 3)
    after = resolved(rows, round_now=6, freed=found.freed, constants=CONSTANTS)
    assert after[:, K].tolist() == [2, 2, PARKED, PARKED, 2]
    none = census(rows, HardPace(round=6), max_parked=5, constants=CONSTANTS)
    assert (none.freed, none.num_parked) == (FREED_NONE, 5)


VISITS = st.tuples(
    st.sampled_from(["none", FEW_SHOT, "end"]),
    st.integers(0, 2),
    st.integers(2, 10),
    st.floats(0, 1),
)


@given(st.lists(st.tuples(st.integers(0, 19), VISITS), max_size=120))
def test_whatever_happens_few_are_parked_and_nothing_is_lost(
    steps: list[tuple[int, tuple[str, int, int, float]]],
) -> None:
    """At most 5 % parked after each round, states of the table only, every parked task returns."""
    rows, pace = np.array([FRESH] * 20), HardPace()
    for ordinal, (kind, level, of, share) in steps:
        if kind == "end":
            pace = pace.advanced(20, num_tasks=20, version=pace.round + 1)
            found = census(rows, pace, max_parked=1, constants=CONSTANTS)
            assert found.num_parked <= 1
            pace = replace(pace, freed=found.freed)
            now = resolved(rows, round_now=pace.round, freed=pace.freed, constants=CONSTANTS)
            assert np.count_nonzero(now[:, K] == PARKED) == found.num_parked
            assert np.count_nonzero(now[:, K] > 0) == found.num_hard
            continue
        visit = Visit(ordinal, kind, level if kind != "none" else 0, of, int(share * of))
        rows[ordinal] = after_visit(
            rows[ordinal],
            visit,
            round_now=pace.round,
            freed=pace.freed,
            constants=CONSTANTS,
        )
    assert set(rows[:, K].tolist()) <= {PARKED, 0.0, 1.0, 2.0}
    later = resolved(rows, round_now=pace.round + 4, freed=pace.freed, constants=CONSTANTS)
    later = resolved(later, round_now=pace.round + 8, freed=pace.freed, constants=CONSTANTS)
    assert not np.any(later[:, K] == PARKED)
    zeros_N = zeros_of(rows)
    assert np.all(zeros_N[rows[:, K] == 0] < CONSTANTS.hard_after)
    assert np.all((rows[:, DUE] == 0) | (rows[:, K] == 0))


@given(
    st.lists(VISITS, max_size=12),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_rounds_in_one_step_or_in_several(
    visits: list[tuple[str, int, int, float]], first: int, second: int
) -> None:
    task = Task()
    for kind, level, of, share in visits:
        if kind == "end":
            task.end_round()
        else:
            task._visit(kind, level if kind != "none" else 0, int(share * of), of)
    half = resolved(
        task.x[None], round_now=task.round + first, freed=FREED_NONE, constants=CONSTANTS
    )
    last = task.round + first + second
    whole = resolved(task.x[None], round_now=last, freed=FREED_NONE, constants=CONSTANTS)
    steps = resolved(half, round_now=last, freed=FREED_NONE, constants=CONSTANTS)
    same = slice(None) if whole[0, LIVE] else [LIVE, K]
    assert np.array_equal(whole[0, same], steps[0, same])
