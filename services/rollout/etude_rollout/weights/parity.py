"""The parity check: does the engine compute what the trainer computed with the same weights?

The trainer publishes `parity.json` beside the weights: probe tokens and its own log-probabilities
of them at temperature 1. A load that reports success may still have missed a tensor (platform.md
section 4), so the engine scores the same tokens and the largest difference is compared. Used by
`loader.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from etude_proto.v1.base import Request, Version

from ..engines.base import WeightsRefused

PARITY_FILE = "parity.json"


class ParityError(Exception):
    """The engine disagrees with the trainer: what it generates is not what is trained."""


class Parity(Request):
    """Content of `parity.json`."""

    policy_version: Version
    token_ids: list[list[int]] = Field(min_length=1)
    """Probe sequences of at least two tokens."""
    logprobs: list[list[float]] = Field(min_length=1)
    """`logprobs[i][t]` is log p(token_ids[i][t + 1] | token_ids[i][: t + 1]) in nats."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError("one list of logprobs per probe is required")
        for ids, logprobs in zip(self.token_ids, self.logprobs, strict=True):
            if len(ids) < 2 or len(logprobs) != len(ids) - 1:
                raise ValueError("a probe of n >= 2 tokens has n - 1 logprobs")
        return self


def read_parity(directory: Path) -> Parity | None:
    """The trainer's probes, or null when it published none.

    Raises:
        WeightsRefused: the file is malformed.
    """
    path = directory / PARITY_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Parity.model_validate_json(text)
    except ValidationError as error:
        raise WeightsRefused(f"{path}: {error}") from error


def largest_gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Largest absolute difference in nats; infinite where a value or a length is wrong."""
    if [len(row) for row in ours] != [len(row) for row in theirs]:
        return math.inf
    gaps = [
        abs(a - b)
        for row_a, row_b in zip(ours, theirs, strict=True)
        for a, b in zip(row_a, row_b, strict=True)
    ]
    return math.inf if any(math.isnan(gap) for gap in gaps) else max(gaps, default=0.0)
