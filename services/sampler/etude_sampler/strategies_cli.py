"""`etude strategies`: the table of parts, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table

from .cli_options import AsJson, paper, say_json
from .curriculum import PRESETS, describe, part_table


def strategies(as_json: AsJson = False) -> None:
    """List presets and the parts that a run's curriculum may name.

    Needs no sampler. Parts of installed packages are among them; broken ones are named with the
    reason.

    Example: `etude strategies --json`
    """
    found = part_table()
    parts = describe(found)
    if as_json:
        presets = {name: preset.summary for name, preset in PRESETS.items()}
        listed = {"parts": [asdict(part) for part in parts]}
        broken = {"broken": [asdict(part) for part in found.broken]}
        say_json({"presets": presets, **listed, **broken})
        return
    table = Table("preset", "what it does")
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary)
    paper().print(table)
    table = Table("part", "kind", "what it does", "whose", "reads", "knobs")
    for part in parts:
        knobs = ", ".join(f"{knob.name}={knob.default}" for knob in part.knobs)
        table.add_row(part.name, part.kind, part.summary, part.paper, part.state, knobs)
    paper().print(table)
    for one in found.broken:
        said = f"not usable: {one.entry!r} of package {one.package}: {one.detail}"
        typer.echo(said, err=True)
