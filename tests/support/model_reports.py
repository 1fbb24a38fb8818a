"""What the stateful test chooses from: calls, crashes, outcomes of every kind."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from etude_proto.v1 import Attempt, FinishReason, Outcome
from etude_sampler.ports.ledger import ReportKey

from .model_run import Sent
from .model_world import When
from .workload import outcome

PICK = st.integers(0, 10_000)
REPLICA = st.integers(0, 1)
NO_CRASH = 11
CRASH = st.integers(0, NO_CRASH)
"""Which of a call's crashes; beyond the last there is none."""
SHAPE = st.sampled_from(["mixed", "mixed", "right", "wrong", "failed", "alone", "hinted"])
REFUSED = st.sampled_from(["body", "twice", "late", "draw"])
REPORT_CRASHES: list[tuple[str, When]] = [
    ("pin", "before"),
    ("pin", "after"),
    ("commit_report", "before"),
    ("commit_report", "after"),
    ("settle", "before"),
    ("settle", "after"),
]
POOL_CRASHES: list[tuple[str, When]] = [
    ("draw", "after"),
    ("statistics", "before"),
    ("choose", "before"),
    ("choose", "after"),
]
"""Of a pooled draw: with candidates, and with a batch that nobody was told of."""
REPORT_COMMITTED = REPORT_CRASHES[3:]
"""Crashes that leave the report in the ledger."""


def rollouts(shape: str, names: list[str], version: int) -> list[Outcome]:
    """A group of four outcomes of some shape."""
    values = {"mixed": (1, 0, 1, 0), "right": (1,) * 4, "wrong": (0,) * 4}.get(shape, (1, 0, 1, 1))
    finish = [FinishReason.STOP] * 4
    if shape == "failed":
        finish = [FinishReason.TIMEOUT, FinishReason.ERROR, FinishReason.ABORTED, finish[0]]
    if shape == "alone":
        finish = [*finish[:2], FinishReason.ERROR, FinishReason.TIMEOUT]
    return [
        outcome({name: float(value) for name in names}, version=version, finish=reason)
        for value, reason in zip(values, finish, strict=True)
    ]


def attempts(shape: str, names: list[str], version: int) -> list[Attempt]:
    """One attempt, or a failed bare one and a hinted success."""
    if shape != "hinted":
        return [Attempt(outcomes=rollouts(shape, names, version))]
    return [
        Attempt(outcomes=rollouts("wrong", names, version)),
        Attempt(outcomes=rollouts("right", names, version), scaffold_kind="hint", scaffold_level=1),
    ]


def key_of(sent: Sent, *, other: bool = False) -> ReportKey:
    """What makes a report the same one; `other`: the same key, another body."""
    return ReportKey(sent.key, hashed(sent.report, sent.cargo, other))


def hashed(*parts: object) -> str:
    """The hash of a body."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
