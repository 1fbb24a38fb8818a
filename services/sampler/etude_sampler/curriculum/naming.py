"""Parts by name: a config's choice, its knobs validated, its complaints as faults with a pointer.

Names only: run configs arrive over HTTP. Used by `resolve`; the names are in `table`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from etude_proto.v1.curriculum import Part, ResolvedPart

from .faults import ConfigFault, KnobFault, pointer
from .parts import Context, PartConfig
from .presets import Choice

ConfigT = TypeVar("ConfigT", bound=PartConfig)
PartT = TypeVar("PartT")
NamedT = TypeVar("NamedT")


def choose(
    parts: Mapping[str, type[ConfigT]], part: Part | None, default: Choice, *, kind: str
) -> ConfigT:
    """The part that the config names, or else the preset's, with validated knobs."""
    chosen = default if part is None else part
    config = named(parts, chosen.name, where=(kind, "name"), what=kind)
    return validated(config, chosen.knobs, kind=kind)


def optional(
    parts: Mapping[str, type[ConfigT]], part: Part | None, default: Choice | None, *, kind: str
) -> ConfigT | None:
    """The part that the config names, or else the preset's; None if neither does."""
    if part is None and default is None:
        return None
    return choose(parts, part, default or Choice(""), kind=kind)


def configured(parts: Mapping[str, type[ConfigT]], part: ResolvedPart, *, kind: str) -> ConfigT:
    """The part of a stored run, with its knobs."""
    config = named(parts, part.name, where=(kind, "name"), what=kind)
    return validated(config, part.knobs, kind=kind)


def validated(config: type[ConfigT], knobs: Mapping[str, object], *, kind: str) -> ConfigT:
    """Knobs as the part's config; JSON rules, so that "0.02" is no number."""
    try:
        return config.model_validate_json(json.dumps(dict(knobs)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        detail = first["msg"]
        if first["type"] == "extra_forbidden":
            detail = f"unknown knob; known: {listed(config.model_fields)}"
        raise fault((kind, "knobs", *first["loc"]), detail) from error


def checked(make: Callable[[Context], PartT], context: Context, *, kind: str) -> PartT:
    """What a part makes of the run; its complaint names the knob."""
    try:
        return make(context)
    except KnobFault as error:
        raise fault((kind, "knobs", *error.path), error.detail) from error


def built(
    parts: Mapping[str, type[ConfigT]],
    part: ResolvedPart | None,
    build: Callable[[ConfigT, Context], PartT],
    context: Context,
    *,
    kind: str,
) -> PartT | None:
    """The part of a stored run, ready to use; None if the run has none."""
    if part is None:
        return None
    config = configured(parts, part, kind=kind)
    return checked(lambda told: build(config, told), context, kind=kind)


def resolved_part(config: PartConfig, context: Context, *, kind: str) -> ResolvedPart:
    """The part with every knob filled in, as stored with the run."""
    filled = checked(config.filled, context, kind=kind)
    return ResolvedPart(name=config.name, knobs=filled.model_dump(mode="json"))


def named(
    table: Mapping[str, NamedT], name: str, *, where: tuple[str | int, ...], what: str
) -> NamedT:
    """What the table holds of that name; a fault that lists the names if there is none."""
    if name not in table:
        raise fault(where, f"unknown {what} {name!r}; known: {listed(table)}")
    return table[name]


def fault(where: tuple[str | int, ...], detail: str) -> ConfigFault:
    """A fault of the curriculum's field `where`."""
    return ConfigFault(pointer("curriculum", *where), detail)


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names for people."""
    return ", ".join(names) or "none"
