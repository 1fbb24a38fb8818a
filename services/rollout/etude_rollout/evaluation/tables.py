"""Tables of an evaluation and of a comparison, as plain text. Used by `cli.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .published import CAUTION, PUBLISHED, SOURCE
from .summary import DomainScore, Summary

if TYPE_CHECKING:
    from .gate import Comparison, DropScore


def score_lines(summary: Summary) -> Iterator[str]:
    """Lines of the table by domain, the means, and what was published."""
    asked = summary.asked
    yield f"{asked.benchmark}: {asked.model} by {asked.engine} ({asked.precision})"
    yield (
        f"data {asked.data}; seed {asked.seed}, temperature {asked.temperature:g}, "
        f"at most {asked.max_new_tokens} tokens"
    )
    yield ""
    rows: list[Sequence[str]] = [
        ("domain", "items", "asked", "right", "%", "95 %", "held out", "cut", "not asked")
    ]
    rows += [_domain_row(domain) for domain in summary.domains]
    yield from aligned(rows)
    if summary.groups:
        yield ""
    for group in summary.groups:
        yield (
            f"{group.name}: {_percent(group.share)} "
            f"({_percent(group.low)} to {_percent(group.high)}) = {group.formula}"
        )
    missing = sum(domain.num_asked - domain.num_answered for domain in summary.domains)
    if missing:
        yield f"not all is answered: {missing} items are open and left out above"
    if any(domain.num_asked < domain.num_items for domain in summary.domains):
        yield "a sample was asked; means weigh the domains by all their items"
    yield ""
    yield f"published, overall, %: {SOURCE}"
    rows = [("model", "raw", "SFT", "GRPO")]
    rows += [
        (model, *(f"{figure:.2f}" for figure in figures))
        for model, figures in PUBLISHED[asked.benchmark]
    ]
    yield from aligned(rows)
    yield f"beware: {CAUTION[asked.benchmark]}"


def gate_lines(comparison: Comparison) -> Iterator[str]:
    """Lines of the quantisation gate."""
    yield (
        f"{comparison.benchmark}: {comparison.full} against {comparison.quantised}, "
        f"{comparison.overall.num_items} items"
    )
    rows: list[Sequence[str]] = [
        ("domain", "items", "lost", "gained", "drop", "95 %", "bound", "verdict")
    ]
    rows += [_drop_row(drop) for drop in (comparison.overall, *comparison.domains)]
    yield from aligned(rows)
    for warning in comparison.warnings:
        yield f"beware: {warning}"
    yield comparison.verdict


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()


def _domain_row(domain: DomainScore) -> tuple[str, ...]:
    has_share = domain.share is not None and domain.low is not None and domain.high is not None
    held_out = domain.held_out
    return (
        domain.domain,
        str(domain.num_items),
        str(domain.num_asked),
        f"{domain.num_right}/{domain.num_answered}",
        _percent(domain.share) if has_share else "-",
        f"{_percent(domain.low)} to {_percent(domain.high)}" if has_share else "-",
        f"{held_out.num_right}/{held_out.num_answered}" if held_out else "-",
        str(domain.num_cut),
        str(domain.num_not_asked),
    )


def _drop_row(drop: DropScore) -> tuple[str, ...]:
    return (
        drop.domain,
        str(drop.num_items),
        str(drop.num_lost),
        str(drop.num_gained),
        f"{drop.drop:.2f}",
        f"{drop.low:.2f} to {drop.high:.2f}",
        f"{drop.bound:g}",
        drop.verdict,
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
