"""Where two runs went apart: pure comparison of what the API shows of both.

`diff_cli` fetches and prints. Draws and statistics are compared by value, so two forks of one
checkpoint with one seed are identical until something treats them differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest

from pydantic import JsonValue

from etude_proto.v1 import Draw, HistoryPoint, Run, TaskStatistics, TaskSummary

_OWN = {
    *("id", "name", "status", "policy_version", "weights_uri", "epoch", "revision", "created_at"),
    *("forked_from", "curriculum", "loading", "last_rebuild"),
}
"""Fields of a run that say which one it is, or where it stands; `resolved` says the curriculum."""


@dataclass(frozen=True, slots=True)
class Common:
    """The last moment that two runs share."""

    run_id: str
    policy_version: int
    checkpoint_id: str | None
    """Of the run that left first; None if both are the same run."""


@dataclass(frozen=True, slots=True)
class Apart:
    """The first draw in which two runs differ; None: one of them has no such draw yet."""

    number: int
    """Counted from the common moment, from 1."""
    first: list[str] | None
    second: list[str] | None
    policy_version: int


@dataclass(frozen=True, slots=True)
class VersionPair:
    """One policy version in both runs."""

    policy_version: int
    first: Mapping[str, float | None]
    second: Mapping[str, float | None]
    """Numbers of the version by name: `mean_reward`, `mastery.format`, ..."""

    @property
    def differs(self) -> bool:
        """Whether the two are not the same."""
        return self.first != self.second


@dataclass(frozen=True, slots=True)
class TaskPair:
    """A task whose statistics differ."""

    task_id: str
    ordinal: int
    first_groups: int
    second_groups: int
    first_success: float
    second_success: float

    @property
    def distance(self) -> float:
        """How far apart: success rates first, then groups (our choice)."""
        groups = abs(self.first_groups - self.second_groups)
        return abs(self.first_success - self.second_success) + groups / (1.0 + groups)


@dataclass(slots=True)
class Difference:
    """Everything that `etude runs diff` says."""

    first: str
    second: str
    config: dict[str, tuple[JsonValue, JsonValue]]
    common: Common | None
    num_draws: int = 0
    """Draws since then that are the same."""
    apart: Apart | None = None
    versions: list[VersionPair] = field(default_factory=list)
    num_tasks: int = 0
    num_tasks_differing: int = 0
    tasks: list[TaskPair] = field(default_factory=list)
    """Those that differ most."""

    @property
    def first_version(self) -> int | None:
        """The first version in which they differ."""
        return next((pair.policy_version for pair in self.versions if pair.differs), None)

    @property
    def is_same(self) -> bool:
        """Whether nothing that both did differs."""
        return self.apart is None and self.first_version is None and not self.num_tasks_differing

    def verdict(self) -> str:
        """One line."""
        if self.is_same:
            return (
                f"identical: {self.num_draws} draws, {len(self.versions)} versions and "
                f"{self.num_tasks} tasks are the same"
            )
        if self.apart is not None:
            return (
                f"apart since draw {self.apart.number} at version {self.apart.policy_version}; "
                f"{self.num_tasks_differing} of {self.num_tasks} tasks differ"
            )
        where = "" if self.first_version is None else f" since version {self.first_version}"
        return (
            f"the same {self.num_draws} draws, other outcomes{where}; "
            f"{self.num_tasks_differing} of {self.num_tasks} tasks differ"
        )

    def to_json(self) -> dict[str, object]:
        """For scripts."""
        return {"identical": self.is_same, "verdict": self.verdict(), **asdict(self)}


def config_differences(first: Run, second: Run) -> dict[str, tuple[JsonValue, JsonValue]]:
    """Settings in which two runs differ, by dotted name."""
    one, other = _flat(first.model_dump(mode="json")), _flat(second.model_dump(mode="json"))
    names = [name for name in {**one, **other} if name.split(".")[0] not in _OWN]
    return {
        name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)
    }


def _flat(value: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for name, part in value.items():
        if isinstance(part, dict) and part:
            found |= _flat(part, f"{prefix}{name}.")
        else:
            found[prefix + name] = part
    return found


def common_moment(first: Run, second: Run, *, get: Callable[[str], Run | None]) -> Common | None:
    """The last moment that two runs share, by their ancestors; None if they share none.

    `get` returns None for a run that was deleted.
    """
    ours, theirs = _lineage(first, get), _lineage(second, get)
    for run_id, (left, checkpoint) in ours.items():
        if run_id not in theirs:
            continue
        other_left, other_checkpoint = theirs[run_id]
        if other_left is not None and (left is None or other_left < left):
            left, checkpoint = other_left, other_checkpoint
        return Common(run_id, first.policy_version if left is None else left, checkpoint)
    return None


def _lineage(
    run: Run, get: Callable[[str], Run | None]
) -> dict[str, tuple[int | None, str | None]]:
    """A run and its ancestors, up to one that was deleted: version and checkpoint of leaving it."""
    found: dict[str, tuple[int | None, str | None]] = {run.id: (None, None)}
    known: Run | None = run
    while known is not None and known.forked_from is not None:
        origin = known.forked_from
        if origin.run_id in found:
            break
        found[origin.run_id] = (origin.policy_version, origin.checkpoint_id)
        known = get(origin.run_id)
    return found


def _words(draw: Draw) -> list[str]:
    """What two draws are compared by; entry numbers tell runs apart, not choices."""
    return [f"{task.ordinal} {task.lane} {task.weight!r}" for task in draw.tasks]


def compare_draws(first: Iterable[Draw], second: Iterable[Draw]) -> tuple[int, Apart | None]:
    """Draws that are the same, and the first that is not.

    A run that has merely drawn less is not apart.
    """
    same = 0
    for one, other in zip_longest(first, second):
        if one is None or other is None:
            break
        if _words(one) != _words(other):
            return same, Apart(same + 1, _words(one), _words(other), one.policy_version)
        same += 1
    return same, None


def compare_versions(
    first: Iterable[HistoryPoint], second: Iterable[HistoryPoint], *, after: int
) -> list[VersionPair]:
    """Versions above `after` that both have."""
    one = {p.policy_version: _point(p) for p in first if p.policy_version > after}
    other = {p.policy_version: _point(p) for p in second if p.policy_version > after}
    return [VersionPair(v, one[v], other[v]) for v in sorted(one.keys() & other.keys())]


def _point(point: HistoryPoint) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {
        "num_groups": point.num_groups,
        "mean_reward": point.mean_reward,
        "informative_share": point.num_informative / point.num_groups if point.num_groups else None,
    }
    for part, values in (("mastery", point.mastery), ("lane_shares", point.lane_shares)):
        numbers |= {f"{part}.{name}": value for name, value in values.items()}
    return numbers


def compare_tasks(
    first: Iterable[TaskSummary], second: Iterable[TaskSummary], *, most: int
) -> tuple[int, int, list[TaskPair]]:
    """Tasks that both have, how many differ, and those that differ most; both by ordinal."""
    num, pairs = 0, []
    num_differing = 0
    for one, other in zip(first, second, strict=False):
        num += 1
        if one.id == other.id and _seen(one.statistics) == _seen(other.statistics):
            continue
        num_differing += 1
        pairs.append(_pair(one, other))
        if len(pairs) > 100 * most:
            pairs = _largest(pairs, most)
    return num, num_differing, _largest(pairs, most)


def _seen(statistics: TaskStatistics | None) -> dict[str, JsonValue] | None:
    return None if statistics is None else statistics.model_dump(mode="json")


def _pair(one: TaskSummary, other: TaskSummary) -> TaskPair:
    ours, theirs = one.statistics, other.statistics
    return TaskPair(
        one.id,
        one.ordinal,
        0 if ours is None else ours.num_groups,
        0 if theirs is None else theirs.num_groups,
        0.0 if ours is None else ours.success_ema,
        0.0 if theirs is None else theirs.success_ema,
    )


def _largest(pairs: Sequence[TaskPair], most: int) -> list[TaskPair]:
    return sorted(pairs, key=lambda pair: (-pair.distance, pair.ordinal))[:most]
