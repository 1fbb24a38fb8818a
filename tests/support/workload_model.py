"""A run's statistics and curriculum, computed again from its ledger by the pure functions alone.

Reads outcomes, in apply order, and nothing that the sampler derived from them; what PostgreSQL and
Redis hold must then be equal to the last bit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from etude_proto.v1 import FinishReason, Run
from etude_sampler.curriculum import AllocatorState, FoldInput, build, importance, micro
from etude_sampler.statistics import (
    GroupSummary,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)

from .sampler_app import query
from .sampler_app_redis import read_hot

_LEDGER = """
SELECT apply_seq, ordinal, kind, level, verdict, lane, slot_probability, num_waiting, outcomes
FROM ledger l WHERE run_id = %s AND NOT EXISTS (
    SELECT 1 FROM restores r WHERE r.run_id = l.run_id
    AND l.apply_seq > r.after_seq AND l.apply_seq <= r.last_seq)
ORDER BY apply_seq
"""
"""Without what a restore discarded."""
_STATISTICS = """
SELECT ordinal, kind, level, s, f, ema, z_easy, z_hard, abs_a, m, v, reward_mean, reward_var,
       full_visits, n, last_version
FROM task_statistics WHERE run_id = %s
"""
Key = tuple[int, str, int]


class Outcomes(TypedDict):
    """A group as the ledger keeps it: one value a rollout."""

    reward: list[float]
    success: list[bool]
    components: dict[str, list[float | None]]
    finish_reason: list[str]


@dataclass(frozen=True, slots=True)
class Group:
    """One applied attempt of the ledger."""

    seq: int
    key: Key
    lane: int
    slot_probability: float
    num_waiting: int
    outcomes: Outcomes


@dataclass(slots=True)
class Recomputed:
    """What the pure functions make of a ledger."""

    statistics: dict[Key, TaskStatistics] = field(default_factory=dict)
    state: AllocatorState | None = None


def applied_groups(database_url: str, run_id: str) -> list[Group]:
    """The ledger's applied attempts in apply order."""
    return [
        Group(row[0], (row[1], row[2], row[3]), row[5], row[6], row[7], row[8])  # type: ignore[arg-type]
        for row in query(database_url, _LEDGER, run_id)
        if row[4] == "applied"
    ]


def _arrays(outcomes: Outcomes, subtasks: Sequence[str]) -> OutcomeArrays:
    size = len(outcomes["reward"])
    q_NGK = np.full((1, size, len(subtasks)), np.nan)
    for name, values in outcomes["components"].items():
        if name in subtasks:
            q_NGK[0, :, subtasks.index(name)] = [np.nan if v is None else v for v in values]
    valid = [FinishReason(str(reason)).is_valid for reason in outcomes["finish_reason"]]
    return OutcomeArrays(
        q_NGK=q_NGK,
        reward_NG=np.array([outcomes["reward"]], dtype=np.float64),
        success_NG=np.array([outcomes["success"]], dtype=np.float64),
        valid_NG=np.array([valid]),
    )


def recompute(run: Run, groups: Sequence[Group], *, boundaries: Sequence[int] = ()) -> Recomputed:
    """Fold groups in apply order; version v + 1 was announced after `boundaries[v]`."""
    curriculum = build(run.resolved)
    subtasks, done = run.resolved.subtasks, Recomputed()
    done.state = curriculum.allocator.initial(len(subtasks))
    since: list[tuple[Group, GroupSummary, TaskStatistics, TaskStatistics]] = []
    version = 0
    for group in [*groups, None]:
        while version < len(boundaries) and (group is None or group.seq > boundaries[version]):
            version += 1
            done.state = curriculum.allocator.fold(
                done.state, _fold_input(since, version, len(subtasks))
            )
            since = []
        if group is None:
            break
        summary = summarise(_arrays(group.outcomes, subtasks))
        before = done.statistics.get(group.key, empty(1, len(subtasks)))
        after = fold(before, summary, version_N=np.array([version]), constants=curriculum.estimator)
        done.statistics[group.key] = after
        if group.key[1:] == ("none", 0):
            since.append((group, summary, before, after))
    return done


def _fold_input(
    since: Sequence[tuple[Group, GroupSummary, TaskStatistics, TaskStatistics]],
    version: int,
    num_subtasks: int,
) -> FoldInput:
    none = np.zeros((0, num_subtasks))
    mean_NK = np.concatenate([none, *(summary.mean_NK for _, summary, _, _ in since)])
    before_NK = np.concatenate([none, *(before.m_NK for _, _, before, _ in since)])
    first_NK = np.isnan(before_NK) & ~np.isnan(mean_NK)
    return FoldInput(
        mean_NK=mean_NK,
        prev_NK=np.where(first_NK, mean_NK, before_NK),
        new_NK=np.concatenate([none, *(after.m_NK for _, _, _, after in since)]),
        first_NK=first_NK,
        iota_N=importance(
            np.array([group.slot_probability for group, *_ in since], dtype=np.float64),
            np.array([group.num_waiting for group, *_ in since], dtype=np.float64),
        ),
        is_control_N=np.array([group.lane == 0 for group, *_ in since], dtype=bool),
        num_acked_batches=version,
        probability_N=np.array([group.slot_probability for group, *_ in since], dtype=np.float64),
    )


def stored_statistics(database_url: str, run_id: str) -> dict[Key, dict[str, object]]:
    """Statistics as PostgreSQL holds them; NaN as None, so that equality means equal bits."""
    names = [*("s", "f", "ema", "z_easy", "z_hard", "abs_a", "m", "v")]
    names += ["reward_mean", "reward_var", "full", "n", "last"]
    found = {}
    for ordinal, kind, level, *values in query(database_url, _STATISTICS, run_id):
        row = dict(zip(names, values, strict=True))
        for name in ("m", "v"):
            packed = row[name]
            assert isinstance(packed, bytes)
            row[name] = _plain(struct.unpack(f"<{len(packed) // 8}d", packed))
        found[(ordinal, kind, level)] = row
    return found  # type: ignore[return-value]


def plain_statistics(statistics: Mapping[Key, TaskStatistics]) -> dict[Key, dict[str, object]]:
    """Recomputed statistics in the form of `stored_statistics`."""
    scalars = ("s", "f", "ema", "z_easy", "z_hard", "abs_a", "reward_mean", "reward_var")
    return {
        key: {
            **{
                name: getattr(one, f"{name}_N")[0].item()
                for name in (*scalars, "full", "n", "last")
            },
            "m": _plain(one.m_NK[0].tolist()),
            "v": _plain(one.v_NK[0].tolist()),
        }
        for key, one in statistics.items()
    }


def _plain(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]


def check_run(
    database_url: str, redis_url: str, run: Run, *, boundaries: Sequence[int] = ()
) -> Recomputed:
    """PostgreSQL holds what the ledger gives; Redis the weights and shares that follow from it."""
    done = recompute(run, applied_groups(database_url, run.id), boundaries=boundaries)
    assert stored_statistics(database_url, run.id) == plain_statistics(done.statistics)
    ((text, version),) = query(
        database_url, "SELECT allocator_state, policy_version FROM runs WHERE id = %s", run.id
    )
    assert done.state is not None
    assert json.loads(str(text)) == done.state.to_json()
    assert version == len(boundaries)
    check_weights(database_url, redis_url, run, done)
    return done


def check_weights(database_url: str, redis_url: str, run: Run, done: Recomputed) -> None:
    """Every waiting task has the weight of its statistics at the run's version, in every lane."""
    hot, curriculum = read_hot(redis_url, run.id), build(run.resolved)
    version = hot.count("version")
    assert done.state is not None
    assert list(hot.packed("shares")) == curriculum.allocator.shares(done.state).tolist()
    rows = query(
        database_url, "SELECT ordinal, subtasks FROM tasks WHERE dataset_id = %s", run.dataset_id
    )
    wrong = {}
    for ordinal, subtasks in rows:
        task = b"%d" % int(str(ordinal))
        if task not in hot.lane(0):
            continue
        stats = done.statistics.get((int(str(ordinal)), "none", 0))
        assert isinstance(subtasks, list)
        active = np.array([[name in subtasks for name in run.resolved.subtasks]])
        stats = empty(1, active.shape[1]) if stats is None else stats
        want = micro(curriculum.weigher.weights(stats, active, version=version))[0].tolist()
        record = hot.hashes["tasks"][task]
        found = list(struct.unpack(f"<{len(record) // 4}I", record))[2:]
        if found != want:
            wrong[ordinal] = (found, want)
    assert not wrong, f"weights at version {version} (found, wanted): {wrong}"
