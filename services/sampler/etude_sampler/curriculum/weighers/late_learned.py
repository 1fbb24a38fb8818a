"""Weigher `late_learned`: another weigher, and twice as much for what was learned late (section 5).

The idea is that of the abstract of 2602.00576; the rest is ours: a task is learned at the first
version at which the EMA of its success reaches a half; after a while, the later half of those
learned gets a factor, and those never learned keep theirs. The half is taken from a histogram of
the run, exact for the first versions and coarser later. Weights of waiting tasks follow when they
are reported, or at the other weigher's `refresh_ages`. Neighbours: every other weigher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, JsonValue, ValidationError

from etude_proto.v1.base import Json
from etude_sampler.curriculum.binding import Paced
from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import Context, Weigher, WeigherConfig
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import (
    Bools,
    EstimatorConstants,
    Floats,
    GroupSummary,
    Ints,
    Note,
    TaskStatistics,
)

NOTE = "learned"
NEVER = -1.0
NUM_BINS = 256
"""Bins of the histogram; their width doubles when versions outgrow them."""


@dataclass(frozen=True, slots=True)
class LearnedFold:
    """The first version at which the EMA of success is at least `threshold`."""

    threshold: float

    def __call__(
        self, x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints
    ) -> Floats:
        """[N, 1] version, or `NEVER`."""
        share_N, step = summary.num_success_N / summary.num_valid_N, EstimatorConstants().alpha
        ema_N = np.where(before.n_N == 0, share_N, (1.0 - step) * before.ema_N + step * share_N)
        now_N = (x_NW[:, 0] == NEVER) & (ema_N >= self.threshold)
        return np.where(now_N, version_N.astype(np.float64), x_NW[:, 0])[:, None]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many tasks were learned when."""

    width: int = 1
    """Versions of a bin."""
    counts: tuple[int, ...] = ()

    def with_learned(self, version: int, num: int) -> Histogram:
        """The same with `num` tasks more."""
        width, counts = self.width, list(self.counts)
        while version // width >= NUM_BINS:
            counts += [0] * (len(counts) % 2)
            counts = [sum(pair) for pair in zip(counts[::2], counts[1::2], strict=True)]
            width *= 2
        counts += [0] * (version // width + 1 - len(counts))
        counts[version // width] += num
        return Histogram(width, tuple(counts))

    def cut(self) -> float:
        """The version from which on at most half of those learned were; infinite if none was.

        Tasks of one bin are never told apart, so that a tie at the middle counts as early.
        """
        half, later, cut = sum(self.counts) // 2, 0, math.inf
        for place in range(len(self.counts) - 1, -1, -1):
            later += self.counts[place]
            if later > half:
                break
            if self.counts[place]:
                cut = float(place * self.width)
        return cut


@dataclass(frozen=True, slots=True)
class LateLearnedWeigher:
    """The other weigher's weights, times the factor where it is due."""

    knobs: LateLearnedConfig
    other: Weigher
    learned: slice
    """Column of the note."""
    cut: float = math.inf

    @property
    def refresh_ages(self) -> tuple[int, ...]:
        """Those of the other weigher."""
        return self.other.refresh_ages

    def start(self) -> JsonValue:
        """No task learned; the other weigher's start."""
        other = self.other.start() if isinstance(self.other, Paced) else None
        return {"width": 1, "counts": [], "other": other}

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """Count the tasks that were learned at the version of these groups."""
        found, other = _read(pace)
        version = folded.num_acked_batches - 1
        now_N = folded.x_NE[:, self.learned][:, 0] == version
        num = len(np.unique(folded.ordinal_N[now_N]))
        if num:
            found = found.with_learned(version, num)
        if isinstance(self.other, Paced):
            other = self.other.advance(other, folded)
        return {"width": found.width, "counts": list(found.counts), "other": other}

    def at(self, pace: JsonValue) -> LateLearnedWeigher:
        """Both weighers at this pace."""
        found, other = _read(pace)
        bound = self.other.at(other) if isinstance(self.other, Paced) else self.other
        return replace(self, other=bound, cut=found.cut())

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]."""
        weights_NK = self.other.weights(stats, active_NK, version=version)
        return weights_NK * self._factor(stats, version)[:, None]

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """The other weigher's line, and the factor."""
        factor = float(self._factor(stats_row, version)[0])
        learned = float(stats_row.x_NE[0, self.learned][0])
        when = "never learned" if learned == NEVER else f"learned at version {learned:.0f}"
        line = self.other.explain(stats_row, k, version)
        return f"{line}; x {factor:g} ({when})"

    def _factor(self, stats: TaskStatistics, version: int) -> Floats:
        late_N = stats.x_NE[:, self.learned][:, 0] >= self.cut
        due = version >= self.knobs.from_version
        return np.where(late_N & due, self.knobs.factor, 1.0)


def _read(pace: JsonValue) -> tuple[Histogram, JsonValue]:
    """Histogram and the other weigher's pace.

    Raises:
        ValueError: of another shape.
    """
    if isinstance(pace, dict):
        width, counts = pace.get("width"), pace.get("counts")
        if isinstance(width, int) and isinstance(counts, list):
            numbers = tuple(count for count in counts if isinstance(count, int))
            return Histogram(width, numbers), pace.get("other")
    raise ValueError(f"not the pace of late_learned: {pace!r}")


class LateLearnedConfig(WeigherConfig):
    """Multiply another weigher's weights for the later half of the tasks learned so far."""

    name: ClassVar[str] = "late_learned"
    paper: ClassVar[str] = "idea of 2602.00576 (abstract), rest ours"
    state: ClassVar[str] = "note learned, histogram of the run; what the other weigher reads"

    weigher: str = Field(default="mixed_group", max_length=128)
    """The weigher whose weights are multiplied, by name."""
    knobs: dict[str, Json] = Field(default_factory=dict)
    """Its knobs."""
    factor: float = Field(default=2.0, ge=1.0, le=100.0)
    """The multiplier."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """EMA of success at which a task counts as learned."""
    from_version: int = Field(default=10, ge=0, le=1_000_000)
    """Policy version at which the multiplier begins: a tenth of the run's steps."""

    def filled(self, context: Context) -> Self:
        """With the other weigher's knobs that depend on the run."""
        other = self._other(context)
        filled = other.filled(context).model_dump(mode="json")
        due = {name: knob for name, knob in filled.items() if knob != getattr(other, name)}
        return self.model_copy(update={"knobs": {**self.knobs, **due}})

    def remembers(self, context: Context) -> tuple[Note, ...]:
        """When a task was learned, and what the other weigher remembers."""
        note = Note(NOTE, (NEVER,), LearnedFold(self.threshold))
        return (*self._other(context).remembers(context), note)

    def build(self, context: Context) -> Weigher:
        """The weigher before the first version."""
        return LateLearnedWeigher(self, self._other(context).build(context), context.notes[NOTE])

    def _other(self, context: Context) -> WeigherConfig:
        """The other weigher's config; refuses unknown ones, wrong knobs and itself."""
        config = context.weighers.get(self.weigher)
        if config is None or config is LateLearnedConfig or config.reads_features:
            raise KnobFault(
                ("weigher",),
                f"{self.weigher!r} is no weigher that can be multiplied: "
                + ", ".join(
                    name
                    for name, part in context.weighers.items()
                    if part is not LateLearnedConfig and not part.reads_features
                ),
            )
        try:
            return config.model_validate(self.knobs)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise KnobFault(("knobs", *first["loc"]), first["msg"]) from error
