"""What came out of an evaluation: shares by domain, means, intervals. The form is a file format.

`tables.py` shows it, `--json` prints it, `summary.json` keeps it, `validation.py` takes its mean.
Where only a sample was asked, the means still weigh domains by their full sizes, so that a sample
estimates what all items would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .answers import NOT_ASKED, Answer, Header
from .intervals import Estimate, weighted_mean, wilson
from .items import Benchmark, Item

FORMAT: Literal["etude-eval-summary/1"] = "etude-eval-summary/1"
NUM_REASONS = 5


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Side(_Part):
    """The part of a domain on one side of the split."""

    num_answered: int
    num_right: int


class DomainScore(_Part):
    """One level or category. Shares are in 0 to 1, intervals 95 % (Wilson)."""

    domain: str
    num_items: int
    """Of the whole domain."""
    num_asked: int
    """In this evaluation: all, or a sample."""
    num_answered: int
    """With an answer that counts; fewer than asked if the engine failed on some."""
    num_right: int
    share: float | None
    low: float | None
    high: float | None
    num_cut: int
    """Answers that reached the limit of tokens."""
    num_not_asked: int
    """Items that could not be asked (their prompts are too long); they count as wrong."""
    held_out: Side | None
    """Rows that an import holds out; null where the benchmark is never imported."""
    reasons: dict[str, int]
    """The most frequent reasons for being wrong."""


class GroupScore(_Part):
    """A mean over domains; the interval combines theirs (MOVER)."""

    name: str
    share: float
    low: float
    high: float
    formula: str


class Summary(_Part):
    """An evaluation in numbers."""

    format: Literal["etude-eval-summary/1"] = FORMAT
    asked: Header
    run: str | None
    """Name or id of the run whose policy was evaluated; nothing is reported to it."""
    policy_version: int | None
    is_complete: bool
    """Whether every item that was asked has an answer."""
    domains: list[DomainScore]
    groups: list[GroupScore]


def summarise(
    benchmark: Benchmark,
    header: Header,
    items: Sequence[Item],
    answers: Sequence[Answer],
    *,
    run: str | None = None,
    policy_version: int | None = None,
) -> Summary:
    """Count the answers to `items`; answers to others are left out."""
    by_id = {answer.id: answer for answer in answers}
    domains = []
    shares: dict[str, Estimate] = {}
    for domain, size in benchmark.sizes.items():
        asked = [item for item in items if item.domain == domain]
        found = [by_id[item.id] for item in asked if item.id in by_id]
        if found:
            shares[domain] = wilson(sum(answer.is_right for answer in found), len(found))
        domains.append(_domain(domain, size, asked, found))
    groups = []
    for group in benchmark.groups:
        if all(domain in shares for domain in group.weights):
            mean = weighted_mean((weight, shares[name]) for name, weight in group.weights.items())
            groups.append(
                GroupScore(
                    name=group.name,
                    share=mean.value,
                    low=mean.low,
                    high=mean.high,
                    formula=group.formula,
                )
            )
    return Summary(
        asked=header,
        run=run,
        policy_version=policy_version,
        is_complete=all(item.id in by_id for item in items),
        domains=domains,
        groups=groups,
    )


def _domain(domain: str, size: int, asked: Sequence[Item], found: Sequence[Answer]) -> DomainScore:
    num_right = sum(answer.is_right for answer in found)
    share = wilson(num_right, len(found)) if found else None
    held_out = [answer for answer in found if answer.split == "held_out"]
    has_split = any(item.split is not None for item in asked)
    reasons = Counter(answer.reason for answer in found if not answer.is_right)
    return DomainScore(
        domain=domain,
        num_items=size,
        num_asked=len(asked),
        num_answered=len(found),
        num_right=num_right,
        share=share.value if share else None,
        low=share.low if share else None,
        high=share.high if share else None,
        num_cut=sum(answer.finish_reason == "length" for answer in found),
        num_not_asked=sum(answer.finish_reason == NOT_ASKED for answer in found),
        held_out=Side(
            num_answered=len(held_out), num_right=sum(answer.is_right for answer in held_out)
        )
        if has_split
        else None,
        reasons=dict(reasons.most_common(NUM_REASONS)),
    )
