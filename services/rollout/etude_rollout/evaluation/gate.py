"""The quantisation gate: may a quantised model take the place of the full one?

Paired on the same items (algorithms.md 9.4; the idea after Model Hemorrhage 2503.23924, all rules
ours). Reads two files of answers; `cli.py` shows what comes out and exits with 1 on BLOCK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from .answers import Answer, Header, read_answers
from .items import EvaluationError

OVERALL_BOUND = 1.0
"""Largest accepted drop over all items, in points."""
DOMAIN_BOUND = 2.0
"""Largest accepted drop of one domain, in points."""
NUM_RESAMPLES = 10_000
SEED = 20_250_324
"""Of the bootstrap, fixed: the same answers give the same verdict."""

GateVerdict = Literal["PASS", "WARN", "BLOCK"]
_MUST_AGREE = ("benchmark", "data", "seed", "temperature", "max_new_tokens", "prompt")


class DropScore(BaseModel):
    """How much of a domain is lost, in points of 100, positive if the quantised model is worse."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    domain: str
    num_items: int
    num_lost: int
    """Right by the full model, wrong by the quantised one."""
    num_gained: int
    drop: float
    low: float
    high: float
    """95 % percentile interval of the bootstrap."""
    bound: float
    verdict: GateVerdict


class Comparison(BaseModel):
    """What `eval compare` says."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    format: Literal["etude-eval-gate/1"] = "etude-eval-gate/1"
    benchmark: str
    full: str
    """Engine and precision of the full model."""
    quantised: str
    verdict: GateVerdict
    overall: DropScore
    domains: list[DropScore]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Items of a domain that both models answered."""

    domain: str
    num_items: int
    num_lost: int
    num_gained: int


def judge(pairs: Pairs, *, bound: float) -> DropScore:
    """Drop, interval and verdict of one set of paired items.

    BLOCK if the drop exceeds the bound and the interval excludes 0, WARN if it exceeds the bound
    only, else PASS. A resample of n differences of -1, 0 and 1 is a draw of how often each occurs,
    so resamples are drawn as multinomial counts: the same law, whatever the order of items.

    Raises:
        ValueError: there are no items.
    """
    num = pairs.num_items
    if num == 0:
        raise ValueError("nothing to compare")
    lost, gained = pairs.num_lost, pairs.num_gained
    shares = [lost / num, gained / num, (num - lost - gained) / num]
    counts_R3 = np.random.default_rng(SEED).multinomial(num, shares, size=NUM_RESAMPLES)
    drops_R = 100 * (counts_R3[:, 0] - counts_R3[:, 1]) / num
    low, high = (float(edge) for edge in np.percentile(drops_R, [2.5, 97.5]))
    drop = 100 * (lost - gained) / num
    verdict: GateVerdict = "PASS"
    if drop > bound:
        verdict = "BLOCK" if low > 0 else "WARN"
    return DropScore(
        domain=pairs.domain,
        num_items=num,
        num_lost=lost,
        num_gained=gained,
        drop=drop,
        low=low,
        high=high,
        bound=bound,
        verdict=verdict,
    )


def compare(full_path: Path, quantised_path: Path) -> Comparison:
    """Compare two files of answers.

    Raises:
        EvaluationError: one cannot be read, or they do not answer the same items asked alike.
    """
    full_header, full = read_answers(full_path)
    quantised_header, quantised = read_answers(quantised_path)
    _must_agree(full_header, quantised_header)
    pairs = _paired(full, quantised)
    overall = judge(_pairs("overall", pairs), bound=OVERALL_BOUND)
    domains = [
        judge(_pairs(name, [pair for pair in pairs if pair[0].domain == name]), bound=DOMAIN_BOUND)
        for name in dict.fromkeys(answer.domain for answer, _ in pairs)
    ]
    verdicts = {each.verdict for each in (overall, *domains)}
    warnings = []
    if full_header.precision == quantised_header.precision:
        warnings.append(f"both files say precision {full_header.precision}")
    return Comparison(
        benchmark=full_header.benchmark,
        full=f"{full_header.engine} ({full_header.precision})",
        quantised=f"{quantised_header.engine} ({quantised_header.precision})",
        verdict=_worst(verdicts),
        overall=overall,
        domains=domains,
        warnings=warnings,
    )


def _worst(verdicts: set[GateVerdict]) -> GateVerdict:
    if "BLOCK" in verdicts:
        return "BLOCK"
    return "WARN" if "WARN" in verdicts else "PASS"


def _must_agree(full: Header, quantised: Header) -> None:
    """
    Raises:
        EvaluationError: the two were asked differently.
    """
    left, right = full.model_dump(), quantised.model_dump()
    for name in _MUST_AGREE:
        if left[name] != right[name]:
            raise EvaluationError(
                f"the files were asked differently: {name} is {left[name]!r} and {right[name]!r}"
            )


def _paired(full: Sequence[Answer], quantised: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    """
    Raises:
        EvaluationError: an item is in one file only.
    """
    by_id = {answer.id: answer for answer in quantised}
    only_full = sum(answer.id not in by_id for answer in full)
    only_quantised = len(quantised) - (len(full) - only_full)
    if only_full or only_quantised:
        raise EvaluationError(
            f"not the same items: {only_full} are answered only in the first file, "
            f"{only_quantised} only in the second"
        )
    if not full:
        raise EvaluationError("the files hold no answers")
    return [(answer, by_id[answer.id]) for answer in full]


def _pairs(domain: str, pairs: Sequence[tuple[Answer, Answer]]) -> Pairs:
    differences = [int(full.is_right) - int(quantised.is_right) for full, quantised in pairs]
    return Pairs(domain, len(pairs), differences.count(1), differences.count(-1))
