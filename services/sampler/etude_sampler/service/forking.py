"""What a fork with another curriculum keeps of its source's state: pure. Used by `travel`.

Statistics and mastery are the tasks' and stay. A part's pace stays with the same part; a note stays
by its name; what the source does not have begins afresh.
"""

from __future__ import annotations

import json
from dataclasses import replace

from etude_proto.v1 import ResolvedCurriculum
from etude_sampler.curriculum import AllocatorState, Curriculum, build, same_parts, start_state
from etude_sampler.statistics import layout

from ..ports.checkpoints import NoteColumns


def carried_state(stored: str, source: ResolvedCurriculum, fork: ResolvedCurriculum) -> str:
    """The allocator's state of a fork, from that of the checkpoint, both as JSON."""
    state = AllocatorState.from_json(json.loads(stored))
    kept = same_parts(source, fork)
    begun = start_state(build(fork)).pace
    pace = {kind: state.pace.get(kind, start) for kind, start in begun.items() if kind in kept}
    moved = replace(state, pace={**begun, **pace})
    return stored if moved == state else json.dumps(moved.to_json())


def carried_notes(source: Curriculum, fork: Curriculum) -> NoteColumns | None:
    """Where a fork's notes come from; None if they are its source's."""
    before, after = layout(source.notes), layout(fork.notes)
    widths = {note.name: len(note.fresh) for note in source.notes}
    took: list[int] = []
    for note in fork.notes:
        shared = widths.get(note.name) == len(note.fresh)
        first = before[note.name].start if shared else -1
        took += [first + i if shared else -1 for i in range(len(note.fresh))]
    if before == after and all(column >= 0 for column in took):
        return None
    return NoteColumns(tuple(took), fork.shape.fresh)
