"""Outcomes as the ledger keeps them, back into arrays: pure. Used by `replay_ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from etude_proto.v1 import FinishReason
from etude_sampler.statistics import Bools, OutcomeArrays

from ..ports.ledger import LedgerRow
from .outcomes import root_shares

_VALID = {reason.value for reason in FinishReason if reason.is_valid}


class LedgerIncomplete(Exception):
    """The ledger does not hold all that the statistics were made of; the message says what."""


@dataclass(slots=True)
class LedgerFaults:
    """What the ledger says otherwise than its outcomes; the first of it by name."""

    num: int = 0
    first: str | None = None

    def add(self, what: str) -> None:
        """One more."""
        self.num += 1
        self.first = self.first or what


def outcome_arrays(
    rows: Sequence[LedgerRow], subtasks: Sequence[str], active_NK: Bools | None = None
) -> OutcomeArrays:
    """The outcomes of ledger rows as arrays, padded to the largest group.

    With `active_NK`, lanes by ordinal, these are scored by success.

    Raises:
        LedgerIncomplete: outcomes were removed.
    """
    groups = [orjson.loads(row.outcomes) for row in rows]
    for row, group in zip(rows, groups, strict=True):
        if not group.get("reward"):
            raise LedgerIncomplete(f"the outcomes of group {row.apply_seq} were removed")
    largest = max(len(group["reward"]) for group in groups)
    shape = (len(rows), largest)
    q_NGK = np.full((*shape, len(subtasks)), np.nan)
    reward_NG, success_NG = np.full(shape, np.nan), np.full(shape, np.nan)
    valid_NG = np.zeros(shape, dtype=bool)
    for i, group in enumerate(groups):
        size = len(group["reward"])
        for k, name in enumerate(subtasks):
            values = group["components"].get(name)
            if values is not None:
                q_NGK[i, :size, k] = [np.nan if value is None else value for value in values]
        reward_NG[i, :size], success_NG[i, :size] = group["reward"], group["success"]
        valid_NG[i, :size] = [reason in _VALID for reason in group["finish_reason"]]
        if active_NK is not None:
            q_NGK[i] = np.where(active_NK[rows[i].ordinal], success_NG[i][:, None], np.nan)
    sizes = [len(group["reward"]) for group in groups]
    shares_N = root_shares([group.get("num_roots") for group in groups], sizes)
    return OutcomeArrays(q_NGK, reward_NG, success_NG, valid_NG, shares_N)


def rounds(rows: Sequence[LedgerRow]) -> list[list[int]]:
    """Rows so that no round holds a statistics key twice; order is kept per key."""
    rounds: list[list[int]] = []
    seen: dict[tuple[int, str, int], int] = {}
    for i, row in enumerate(rows):
        key = (row.ordinal, row.kind, row.level)
        turn = seen.get(key, 0)
        seen[key] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(i)
    return rounds
