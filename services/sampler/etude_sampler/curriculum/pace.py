"""The pace of a run's parts: started, moved with every version, bound to the parts (our design).

A part's pace is one JSON value in `AllocatorState.pace` under its kind. Neighbours: `parts.Paced`
says what such a part does, `resolve.Curriculum` holds the parts, the service folds and binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from etude_proto.v1.curriculum import ResolvedCurriculum, ResolvedPart

from .binding import Paced, is_paced_part
from .state import AllocatorState, FoldInput

if TYPE_CHECKING:
    from .resolve import Curriculum

ALLOCATOR = "allocator"
"""Under this kind an allocator keeps its own pace."""


def paced_parts(curriculum: Curriculum) -> Mapping[str, Paced]:
    """The parts with a pace, by kind."""
    parts = {field.name: getattr(curriculum, field.name) for field in fields(curriculum)}
    return {kind: part for kind, part in parts.items() if is_paced_part(part)}


def is_paced(curriculum: Curriculum) -> bool:
    """Whether weights depend on the pace: the weigher's, or that of hard sampling."""
    return is_paced_part(curriculum.weigher) or curriculum.hard is not None


def start_state(curriculum: Curriculum) -> AllocatorState:
    """The state before the first fold."""
    state = curriculum.allocator.initial(len(curriculum.subtasks))
    started = {kind: part.start() for kind, part in paced_parts(curriculum).items()}
    return replace(state, pace={**state.pace, **started})


def fold_state(curriculum: Curriculum, state: AllocatorState, folded: FoldInput) -> AllocatorState:
    """The state after the groups of one policy version."""
    moved = curriculum.allocator.fold(state, folded)
    pace = {
        kind: part.advance(state.pace.get(kind, part.start()), folded)
        for kind, part in paced_parts(curriculum).items()
    }
    return replace(moved, pace={**moved.pace, **pace})


def at_pace(curriculum: Curriculum, pace: Mapping[str, JsonValue]) -> Curriculum:
    """The curriculum with every part at its pace; the same one if no part has any."""
    bound: dict[str, Any] = {  # parts of several kinds; `replace` takes them by name
        kind: part.at(pace[kind]) for kind, part in paced_parts(curriculum).items() if kind in pace
    }
    return replace(curriculum, **bound) if bound else curriculum


def same_parts(one: ResolvedCurriculum, other: ResolvedCurriculum) -> frozenset[str]:
    """Kinds whose part has the same name and knobs in both: their pace can be kept."""
    theirs = dict(other)
    return frozenset(
        kind for kind, part in one if isinstance(part, ResolvedPart) and theirs.get(kind) == part
    )
