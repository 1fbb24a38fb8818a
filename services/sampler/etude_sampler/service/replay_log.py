"""Decisions as replay reads them: the words of the log as arrays. Pure; used by `replay_races`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Floats, Ints

from ..ports.decisions import LoggedDecision

SETTLED = ("report", "release", "expire")
"""Kinds of decisions that end the stay of tasks in a lease."""
CHOOSE = "choose"
"""Kind of a pool's choice: candidates that were not chosen go back, too."""


class Unreadable(ValueError):
    """An entry of the log that does not say what replay needs."""


@dataclass(frozen=True, slots=True, eq=False)
class LoggedDraw:
    """The tasks of a draw, in the order drawn."""

    tasks_B: Ints
    entries_B: Ints
    lanes_B: Ints
    weights_B: Ints
    probability_B: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Entered:
    """Tasks with the entry numbers and lane weights that were written for them."""

    tasks_N: Ints
    entries_N: Ints
    weights_NL: Ints


@dataclass(frozen=True, slots=True, eq=False)
class LoggedChoice:
    """A pool's choice, apart from the entries that it wrote."""

    control: tuple[int, ...]
    """Ordinals of the control arm."""
    reads: bytes
    """What was read beside statistics."""


def logged_draw(decision: LoggedDecision) -> LoggedDraw:
    """`ordinal entry lane weight probability` of each task; lanes count from 1.

    Raises:
        Unreadable: words of another shape.
    """
    words = decision.tasks.split()
    if len(words) % 5:
        raise Unreadable("the words of a draw are not five a task")
    try:
        whole = np.array([[int(word) for word in words[i::5]] for i in range(4)], dtype=np.int64)
        probability_B = np.array([float(word) for word in words[4::5]], dtype=np.float64)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    return LoggedDraw(whole[0], whole[1], whole[2] - 1, whole[3], probability_B)


def entered(decision: LoggedDecision, *, num_lanes: int) -> Entered:
    """Tasks and packed records of a settled or re-weighed lease.

    Raises:
        Unreadable: no records (a version before them drained the entry), or of another shape.
    """
    words = decision.tasks.rpartition("|")[2] if decision.kind == CHOOSE else decision.tasks
    tasks_N = np.array([int(word) for word in words.split()], dtype=np.int64)
    if decision.records is None:
        raise Unreadable("it was drained by a version that kept no weights")
    records = decision.records
    if decision.kind == CHOOSE:
        records = records[: 4 * len(tasks_N) * (1 + num_lanes)]
    if len(records) % 4:
        raise Unreadable("its records are cut off")
    table = np.frombuffer(records, dtype="<u4")
    if len(table) != len(tasks_N) * (1 + num_lanes):
        raise Unreadable("its records are not one a task")
    rows = table.reshape(len(tasks_N), 1 + num_lanes).astype(np.int64)
    return Entered(tasks_N, rows[:, 0], rows[:, 1:])


def logged_choice(decision: LoggedDecision, back: Entered) -> LoggedChoice:
    """The rest of a choice whose entries were read.

    Raises:
        Unreadable: words of another shape.
    """
    control, bar, _ = decision.tasks.partition("|")
    if not bar or decision.records is None:
        raise Unreadable("a choice that does not say who was kept")
    try:
        ordinals = tuple(int(word) for word in control.split())
    except ValueError as error:
        raise Unreadable(str(error)) from error
    size = 4 * (back.weights_NL.shape[1] + 1) * len(back.tasks_N)
    return LoggedChoice(ordinals, decision.records[size:])


def logged_shares(decision: LoggedDecision, *, num_lanes: int) -> Floats:
    """Lane shares of an opening or an announcement.

    Raises:
        Unreadable: there are none, or not one a lane.
    """
    if decision.records is None:
        raise Unreadable("it was drained by a version that kept no shares")
    if len(decision.records) != 8 * num_lanes:
        raise Unreadable("its shares are not one a lane")
    return np.frombuffer(decision.records, dtype="<f8").astype(np.float64)


def settled_entries(decisions: Sequence[LoggedDecision], *, num_lanes: int) -> dict[int, Entered]:
    """What a page's decisions brought back into lanes, by number; unreadable ones are left out."""
    found = {}
    for decision in decisions:
        if decision.kind in (*SETTLED, CHOOSE):
            try:
                found[decision.number] = entered(decision, num_lanes=num_lanes)
            except Unreadable:
                continue
    return found
