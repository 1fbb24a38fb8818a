"""Outcomes between the wire's objects, numpy arrays and the ledger's compact JSON: pure.

A report holds hundreds of outcomes, so they are read once, into flat columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from etude_proto.v1 import Attempt, FinishReason, Outcome
from etude_sampler.statistics import Floats, OutcomeArrays

_VALID = frozenset(reason for reason in FinishReason if reason.is_valid)
_PLAIN = ("reward", "shaping", "success")
_COUNTED = ("num_turns", "num_tokens")


@dataclass(frozen=True, slots=True)
class Columns:
    """The outcomes of several attempts, one after the other, as columns."""

    sizes: tuple[int, ...]
    """Outcomes of each attempt."""
    components: dict[str, list[float | None]]
    """By name, in alphabetical order; None where an outcome does not carry it."""
    plain: dict[str, list[float]]
    counted: dict[str, list[int]]
    finish_reason: list[FinishReason]
    valid: list[bool]
    num_roots: tuple[int | None, ...]
    """Of each attempt; None: every rollout is one."""

    @classmethod
    def of(cls, attempts: Sequence[Attempt], *, version: int) -> Columns:
        """Read every outcome once; what does not name its versions is of the lease's `version`."""
        flat = [outcome for attempt in attempts for outcome in attempt.outcomes]
        reasons = [o.finish_reason for o in flat]
        told = [o.components for o in flat]
        names = sorted(set().union(*told))
        told_oldest = [o.min_policy_version for o in flat]
        oldest = [version if low is None else low for low in told_oldest]
        newest = [
            max(version, low) if o.max_policy_version is None else o.max_policy_version
            for o, low in zip(flat, oldest, strict=True)
        ]
        return cls(
            sizes=tuple(len(attempt.outcomes) for attempt in attempts),
            components={name: [row.get(name) for row in told] for name in names},
            plain={name: [getattr(o, name) for o in flat] for name in _PLAIN},
            counted={
                **{name: [getattr(o, name) for o in flat] for name in _COUNTED},
                "min_policy_version": oldest,
                "max_policy_version": newest,
            },
            finish_reason=reasons,
            valid=[reason in _VALID for reason in reasons],
            num_roots=tuple(attempt.num_roots for attempt in attempts),
        )

    def arrays(
        self, subtasks: Sequence[str], members: Sequence[tuple[str, ...]] | None = None
    ) -> OutcomeArrays:
        """The attempts as arrays, padded to the largest.

        With `members`, the lanes of each attempt's task, these are scored by success instead of
        the components of the same names.
        """
        num, largest = len(self.sizes), max(self.sizes)
        there = np.arange(largest) < np.array(self.sizes)[:, None]
        q_NGK = np.full((num, largest, len(subtasks)), np.nan)
        reward_NG, success_NG = np.full((num, largest), np.nan), np.full((num, largest), np.nan)
        valid_NG = np.zeros((num, largest), dtype=bool)
        for k, name in enumerate(subtasks):
            if name in self.components:
                q_NGK[there, k] = np.array(self.components[name], dtype=np.float64)
        reward_NG[there] = self.plain["reward"]
        success_NG[there] = self.plain["success"]
        valid_NG[there] = self.valid
        if members is not None:
            q_NGK = success_scores(success_NG, subtasks, members)
        shares_N = root_shares(self.num_roots, self.sizes)
        return OutcomeArrays(q_NGK, reward_NG, success_NG, valid_NG, shares_N)

    def num_tokens(self) -> list[int]:
        """Completion tokens of each attempt."""
        tokens = self.counted["num_tokens"]
        return [sum(tokens[at]) for at in self._slices()]

    def oldest_versions(self, *, otherwise: int) -> list[int]:
        """Oldest policy version among each attempt's valid outcomes."""
        versions, valid = self.counted["min_policy_version"], self.valid
        if all(valid):
            return [min(versions[at]) for at in self._slices()]
        return [
            min((versions[i] for i in range(at.start, at.stop) if valid[i]), default=otherwise)
            for at in self._slices()
        ]

    def compact(self, *, engine: str | None = None) -> list[str]:
        """Each attempt's outcomes as JSON arrays, one value a rollout.

        `engine` is what generated all of them, with its precision, if the report says so.
        """
        packed = []
        for at, num_roots in zip(self._slices(), self.num_roots, strict=True):
            components = {name: values[at] for name, values in self.components.items()}
            columns: dict[str, object] = {
                **{name: values[at] for name, values in self.plain.items()},
                "components": {
                    name: values
                    for name, values in components.items()
                    if values.count(None) < len(values)
                },
                "finish_reason": self.finish_reason[at],
                **{name: values[at] for name, values in self.counted.items()},
            }
            if num_roots is not None:
                columns["num_roots"] = num_roots
            if engine is not None:
                columns["engine"] = engine
            packed.append(orjson.dumps(columns).decode())
        return packed

    def _slices(self) -> list[slice]:
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


def success_scores(
    success_NG: Floats, subtasks: Sequence[str], members: Sequence[tuple[str, ...]]
) -> Floats:
    """[N, G, K] success in the lanes that each of N tasks stands in; nan elsewhere."""
    active_NK = np.array([[name in lanes for name in subtasks] for lanes in members], dtype=bool)
    return np.where(active_NK[:, None, :], success_NG[:, :, None], np.nan)


def root_shares(num_roots: Sequence[int | None], sizes: Sequence[int]) -> Floats:
    """`n_roots / G` of each attempt (algorithms.md 8): 1 where every rollout is a root."""
    shares = [
        1.0 if num is None else num / size for num, size in zip(num_roots, sizes, strict=True)
    ]
    return np.array(shares)


def oldest_version(outcomes: Sequence[Outcome], *, otherwise: int) -> int:
    """Oldest policy version among valid outcomes; `otherwise` is the lease's."""
    told = (o.min_policy_version for o in outcomes if o.finish_reason in _VALID)
    return min((otherwise if version is None else version for version in told), default=otherwise)


def pack_rows(values: Floats) -> list[bytes]:
    """Each row of an array [N, K] as little-endian float64."""
    width, whole = values.shape[1] * 8, np.ascontiguousarray(values, dtype="<f8").tobytes()
    return [whole[i * width : (i + 1) * width] for i in range(len(values))]
