"""The page of strategies names every preset and part, with their choices and knobs."""

from __future__ import annotations

from etude_sampler.curriculum import PRESETS, Preset, describe, part_table
from support.markdown import bare, page

PAGE = page("docs/concepts/strategies.md")
OPTIONAL = ("budget", "pool", "hard", "scaffold")
"""Kinds of parts that most presets do without."""


def _besides(preset: Preset) -> str:
    """For example "budget `cures`"; "-" for nothing."""
    found = [(kind, getattr(preset, kind)) for kind in OPTIONAL]
    return ", ".join(f"{kind} `{one.name}`" for kind, one in found if one is not None) or "-"


def test_presets_are_as_written() -> None:
    written = [
        (
            *(bare(row[name]) for name in ("preset", "weights", "slots", "gate")),
            float(row["share of `uniform`"]),
            row["besides"],
        )
        for row in PAGE.rows("preset")
    ]
    assert written == [
        (
            name,
            one.weigher.name,
            one.allocator.name,
            one.gate.name,
            one.control_share,
            _besides(one),
        )
        for name, one in PRESETS.items()
    ]


def test_parts_are_as_written() -> None:
    written = [
        (row["kind"], bare(row["part"]), row["knobs"].replace("`", "").replace("-", "").split())
        for row in PAGE.rows("part")
    ]
    assert written == [
        (one.kind, one.name, [knob.name for knob in one.knobs]) for one in describe(part_table())
    ]
