"""Prometheus metrics of the runs, made at a scrape from what `service.watching` has just seen.

They come from PostgreSQL and Redis, so every replica tells the same: take `max by (run)`, not the
sum. Totals fall back when a run is restored, like counters of a restarted process. Labels are runs,
lanes, sub-tasks and arms, never tasks or leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..ports.races import RaceState
from ..service.context import RunContext
from ..service.watching import Sight, Sights


class Declared(NamedTuple):
    """One metric: its name (counters without `_total`), what it says, its labels beside `run`."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False


WATCHED: Final = Declared("etude_runs_watched", "Runs that this scrape shows.")
UNWATCHED: Final = Declared("etude_runs_unwatched", "Runs that no scrape shows: too many.")
UP: Final = Declared("etude_dependencies_up", "1 if PostgreSQL and Redis answered this scrape.")
INFO: Final = Declared(
    "etude_run_info",
    "1; a run's name, mode, preset and status.",
    ("name", "mode", "preset", "status"),
)
SERVING: Final = Declared("etude_run_serving", "1, or 0 while the run is being rebuilt in Redis.")
EPOCH: Final = Declared("etude_run_epoch", "Epoch: grows with every rebuild.")
VERSION: Final = Declared("etude_run_policy_version", "Newest policy version.")
TASKS: Final = Declared("etude_run_tasks", "Tasks by where they are.", ("state",))
READY: Final = Declared("etude_run_ready_groups", "Groups that wait to be trained on.")
TRAINING: Final = Declared("etude_run_training_groups", "Groups in live training batches.")
CAP: Final = Declared("etude_run_cap_groups", "Leased tasks plus ready groups, at most.")
WANTED: Final = Declared(
    "etude_run_wanted_groups", "Groups that rollout may still make: the cap less those ready."
)
CARGO: Final = Declared("etude_run_cargo_bytes", "Trajectories in Redis.")
LEASES: Final = Declared("etude_run_leases", "Live leases.", ("kind",))
EXPIRED: Final = Declared("etude_run_tasks_expired", "Tasks whose lease ran out.", is_counter=True)
PURGED: Final = Declared(
    "etude_run_groups_purged", "Ready groups grown too stale.", is_counter=True
)
EVICTED: Final = Declared(
    "etude_run_groups_evicted", "Ready groups dropped for lower limits.", is_counter=True
)
BANKED: Final = Declared("etude_run_banked_groups", "Trained groups that may be replayed.")
REPLAYED: Final = Declared(
    "etude_run_groups_replayed",
    "Groups trained on again, since the hot state was loaded.",
    is_counter=True,
)
GROUPS: Final = Declared(
    "etude_run_groups", "Groups applied, up to the newest version.", ("arm",), is_counter=True
)
INFORMATIVE: Final = Declared(
    "etude_run_informative_groups", "Those of them whose rewards differ.", ("arm",), is_counter=True
)
TOKENS: Final = Declared("etude_run_tokens", "Tokens of those groups.", ("arm",), is_counter=True)
SHARE: Final = Declared("etude_run_lane_share", "Share of the slots.", ("lane",))
WAITING: Final = Declared("etude_run_lane_waiting", "Tasks that wait in a lane.", ("lane",))
MASTERY: Final = Declared("etude_run_mastery", "Estimated mastery of a sub-task.", ("subtask",))
WEIGHT: Final = Declared(
    "etude_run_component_weight", "Weight of a reward component.", ("subtask",)
)
ALL: Final = tuple(value for value in dict(globals()).values() if isinstance(value, Declared))
"""Every metric of this module."""
PLAIN: Final = frozenset({WATCHED, UNWATCHED, UP})
"""Those without the label `run`."""

Sample = tuple[Declared, tuple[str, ...], float]


class _Seen(Collector):
    """One look as a collector."""

    def __init__(self, sights: Sights) -> None:
        self._sights = sights

    def collect(self) -> Iterable[Metric]:
        """Its metrics."""
        return families(self._sights)


def exposition(sights: Sights) -> bytes:
    """One look in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Seen(sights))
    return generate_latest(registry)


def families(sights: Sights) -> Iterable[Metric]:
    """All metrics of one look, in the order of their declaration."""
    made = {one.name: _family(one) for one in ALL}
    made[WATCHED.name].add_metric((), len(sights.runs))
    made[UNWATCHED.name].add_metric((), sights.num_unwatched)
    made[UP.name].add_metric((), float(sights.is_whole))
    for sight in sights.runs:
        for declared, labels, value in _samples(sight):
            made[declared.name].add_metric((sight.context.row.id, *labels), value)
    return made.values()


def _family(one: Declared) -> CounterMetricFamily | GaugeMetricFamily:
    labels = () if one in PLAIN else ("run", *one.labels)
    kind = CounterMetricFamily if one.is_counter else GaugeMetricFamily
    return kind(one.name, one.text, labels=labels)


def _samples(sight: Sight) -> Iterator[Sample]:
    context, row = sight.context, sight.context.row
    preset = row.spec.curriculum.preset
    yield INFO, (row.name, row.spec.mode.value, preset, row.status.value), 1.0
    yield SERVING, (), float(sight.state is not None)
    yield EPOCH, (), row.epoch
    yield VERSION, (), row.policy_version
    yield CAP, (), context.limits.cap
    for arm, totals in row.totals.items():
        yield GROUPS, (arm,), totals.get("groups", 0.0)
        yield INFORMATIVE, (arm,), totals.get("informative", 0.0)
        yield TOKENS, (arm,), totals.get("tokens", 0.0)
    for one in context.curriculum.allocator.view(context.state()):
        if one.mastery is not None:
            yield MASTERY, (one.name,), one.mastery
        yield WEIGHT, (one.name,), one.component_weight
    if sight.state is not None:
        yield from _hot(context, sight.state)


def _hot(context: RunContext, state: RaceState) -> Iterator[Sample]:
    counts, waiting = state.counters, state.lanes[0].num_waiting
    leased = counts["n_leased"]
    yield TASKS, ("waiting",), waiting
    yield TASKS, ("leased",), leased
    yield TASKS, ("parked",), context.row.num_tasks - waiting - leased
    yield READY, (), counts["n_ready"]
    yield TRAINING, (), counts["n_training"]
    yield WANTED, (), max(0, context.limits.cap - counts["n_ready"])
    yield CARGO, (), counts["cargo_bytes"]
    yield LEASES, ("prompt",), state.num_prompt_leases
    yield LEASES, ("training",), state.num_training_leases
    yield EXPIRED, (), counts["n_expired"]
    yield PURGED, (), counts["n_purged"]
    yield EVICTED, (), counts["n_evicted"]
    yield BANKED, (), state.num_banked
    yield REPLAYED, (), counts["n_replayed"]
    for name, lane in zip(context.curriculum.lanes, state.lanes, strict=True):
        yield SHARE, (name,), lane.share
        yield WAITING, (name,), lane.num_waiting
