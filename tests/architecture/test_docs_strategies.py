"""The page of strategies names every preset and part, with their choices and knobs."""

from __future__ import annotations

from etude_sampler.curriculum import PRESETS, describe, part_table
from support.markdown import bare, page

PAGE = page("docs/concepts/strategies.md")


def test_presets_are_as_written() -> None:
    written = [
        (
            *(bare(row[name]) for name in ("preset", "weights", "slots", "gate")),
            float(row["share of `uniform`"]),
        )
        for row in PAGE.rows("preset")
    ]
    assert written == [
        (name, one.weigher.name, one.allocator.name, one.gate.name, one.control_share)
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
