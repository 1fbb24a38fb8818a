"""Walks through a run's tasks for the task explorer: each step looks at a bounded number.

A walk yields tasks in its order from a place on, and says how many it looked at and where it would
go on. A list is one walk after another (`exploring`). Places are texts, so that cursors carry them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from etude_sampler.statistics import Floats, Ints

from ..errors import CursorExpired
from ..ports.sights import Fits, Practised, Seen, SeenOrder
from .context import RunContext
from .entering import unpack_records
from .steps import Ground

PRACTISED_GROUPS = 4096
"""Newest groups among which the most improved tasks are looked for (our choice)."""
_LEAST_GAIN = 1e-9


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one step of a walk brought."""

    ordinals: list[int]
    num_looked_at: int
    place: str | None
    """Where to go on; None at the end of the walk."""
    gains: dict[int, float] | None = None


class Walk(Protocol):
    """One order of tasks."""

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """Up to `want` tasks from a place on, looking at about `most`; '' is the beginning."""


@dataclass(frozen=True, slots=True)
class Tour:
    """What every walk needs."""

    ground: Ground
    context: RunContext
    fits: Fits

    @property
    def run_id(self) -> str:
        """The run."""
        return self.context.row.id

    @property
    def dataset_id(self) -> str:
        """Its dataset."""
        return self.context.row.spec.dataset_id

    @property
    def is_filtered(self) -> bool:
        """Whether a task may be left out."""
        return self.fits != Fits(sources=self.context.row.spec.sources)


def numbers(place: str, num: int) -> list[float]:
    """The numbers of a place.

    Raises:
        CursorExpired: it holds something else.
    """
    try:
        found = [float.fromhex(word) for word in place.split(",")]
    except (ValueError, OverflowError) as error:
        raise CursorExpired("this is not a cursor of this list") from error
    if len(found) != num or not all(abs(value) < 2**31 for value in found):
        raise CursorExpired("this is not a cursor of this list")
    return found


def place_of(*values: float) -> str:
    """The place of some numbers, exactly."""
    return ",".join(float(value).hex() for value in values)


class SeenWalk:
    """Seen tasks by success rate or by the version at which they were last practised."""

    def __init__(self, tour: Tour, order: SeenOrder) -> None:
        self._tour, self._order = tour, order

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """By the index of the order; filters are looked up task by task."""
        tour, after = self._tour, None
        if place:
            key, ordinal = numbers(place, 2)
            after = Seen(key, int(ordinal))
        limit = most if tour.is_filtered else want
        found = await tour.ground.ledger.seen(tour.run_id, self._order, after=after, limit=limit)
        ended = len(found) < limit
        if tour.is_filtered and found:
            ordinals = [one.ordinal for one in found]
            fit = await tour.ground.ledger.fitting(tour.dataset_id, ordinals, tour.fits)
            shown = [one for one in found if one.ordinal in fit]
        else:
            shown = found
        if len(shown) > want:
            shown, ended = shown[:want], False
            found = found[: found.index(shown[-1]) + 1]
        place_after = None if ended else place_of(found[-1].key, found[-1].ordinal)
        return Stretch([one.ordinal for one in shown], len(found), place_after)


class OrdinalWalk:
    """Tasks in the order of import; of those never seen alone, if asked."""

    def __init__(self, tour: Tour, *, unseen: bool = False) -> None:
        self._tour, self._unseen = tour, unseen

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """One range of ordinals."""
        tour = self._tour
        first = int(numbers(place, 1)[0]) if place else 0
        end = await tour.ground.ledger.num_ordinals(tour.dataset_id)
        last = min(end, first + most) - 1
        if last < first:
            return Stretch([], 0, None)
        found = await tour.ground.ledger.between(
            tour.dataset_id,
            tour.fits,
            first=first,
            last=last,
            limit=want,
            unseen_by=tour.run_id if self._unseen else None,
        )
        if len(found) == want:
            last = found[-1]
        return Stretch(found, last + 1 - first, place_of(last + 1) if last + 1 < end else None)


class NumberWalk:
    """The one task of a number."""

    def __init__(self, tour: Tour, ordinal: int) -> None:
        self._tour, self._ordinal = tour, ordinal

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """That task, if the run has it."""
        tour, one = self._tour, self._ordinal
        found = await tour.ground.ledger.between(
            tour.dataset_id, tour.fits, first=one, last=one, limit=1
        )
        return Stretch(found, 1, None)


class ParkedWalk:
    """Tasks that are in no lane and in no lease, in the order of import."""

    def __init__(self, tour: Tour) -> None:
        self._tour = tour

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """A task whose weight in `uniform` is 0 is parked. Raises `Rebuilding`."""
        tour = self._tour
        if not await tour.ground.on_run(tour.run_id, self._num_parked):
            return Stretch([], 0, None)
        stretch = await OrdinalWalk(tour).step(place, want=min(most, 2000), most=most)

        async def hot(context: RunContext) -> list[bytes | None]:
            return await tour.ground.races.entries(context.key, stretch.ordinals)

        records = await tour.ground.on_run(tour.run_id, hot)
        known = [o for o, r in zip(stretch.ordinals, records, strict=True) if r is not None]
        held = [record for record in records if record is not None]
        weights_NL = unpack_records(held)[1] if held else np.zeros((0, 1), dtype=np.int64)
        parked = [o for o, weight in zip(known, weights_NL[:, 0], strict=True) if weight == 0]
        if len(parked) <= want:
            return Stretch(parked, stretch.num_looked_at, stretch.place)
        last = parked[want - 1]
        first = int(numbers(place, 1)[0]) if place else 0
        return Stretch(parked[:want], last + 1 - first, place_of(last + 1))

    async def _num_parked(self, context: RunContext) -> int:
        """By the counts, which cost nothing: most runs park no task."""
        state = await self._tour.ground.races.state(context.key)
        return context.row.num_tasks - state.lanes[0].num_waiting - state.counters["n_leased"]


class ImprovedWalk:
    """Tasks by what they gained over the newest groups of the run, most first."""

    def __init__(self, tour: Tour) -> None:
        self._tour = tour

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """All at once: the groups are read again for each page."""
        tour = self._tour
        groups = await tour.ground.ledger.practised(
            tour.run_id, newest=PRACTISED_GROUPS, num_subtasks=tour.context.num_subtasks
        )
        ordinals_N, gain_N = gains(groups)
        order = np.lexsort((ordinals_N, -gain_N))
        ranked = [(float(gain_N[i]), int(ordinals_N[i])) for i in order if gain_N[i] > _LEAST_GAIN]
        if place:
            gain, ordinal = numbers(place, 2)
            ranked = [one for one in ranked if (-one[0], one[1]) > (-gain, int(ordinal))]
        if tour.is_filtered:
            some = ranked[:most]
            fit = await tour.ground.ledger.fitting(tour.dataset_id, [o for _, o in some], tour.fits)
            ranked = [one for one in some if one[1] in fit]
        shown = ranked[:want]
        after = place_of(*shown[-1]) if len(ranked) > want else None
        return Stretch(
            [ordinal for _, ordinal in shown],
            len(groups.ordinals_N),
            after,
            {ordinal: gain for gain, ordinal in shown},
        )


class PrefixWalk:
    """Tasks whose id begins with a text."""

    def __init__(self, tour: Tour, prefix: str) -> None:
        self._tour, self._prefix = tour, prefix

    async def step(self, place: str, *, want: int, most: int) -> Stretch:
        """By id."""
        tour = self._tour
        found = await tour.ground.ledger.by_prefix(
            tour.dataset_id, self._prefix, after=place, limit=want
        )
        ordinals = [ordinal for _, ordinal in found]
        fit = set(ordinals)
        if tour.is_filtered and ordinals:
            fit = await tour.ground.ledger.fitting(tour.dataset_id, ordinals, tour.fits)
        after = found[-1][0] if len(found) == want else None
        return Stretch([o for o in ordinals if o in fit], len(found), after)


def gains(groups: Practised) -> tuple[Ints, Floats]:
    """Tasks of some groups, and the rise of their moving averages from before the oldest group of
    each to after the newest: the mean over its components, NaN where nothing can be compared.

    The first group of a task has no average before it: its own mean stands for that, as it does in
    the fold. A task with that group alone has gained 0.
    """
    ordinals_T, newest_T = np.unique(groups.ordinals_N, return_index=True)
    _, reversed_T = np.unique(groups.ordinals_N[::-1], return_index=True)
    oldest_T = len(groups.ordinals_N) - 1 - reversed_T
    before_TK = np.where(
        np.isnan(groups.prev_NK[oldest_T]), groups.mean_NK[oldest_T], groups.prev_NK[oldest_T]
    )
    rise_TK = groups.new_NK[newest_T] - before_TK
    num_T = (~np.isnan(rise_TK)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain_T: Floats = np.nansum(rise_TK, axis=1) / np.where(num_T > 0, num_T, np.nan)
    return ordinals_T, gain_T
