"""What a curriculum asks of the run's tasks: lanes by what, features, notes.

Neighbours: `resolve` builds the parts with it; the service asks before it looks at the data.
"""

from __future__ import annotations

from collections.abc import Mapping

from etude_proto.v1.curriculum import CurriculumConfig, LanesBy, ResolvedCurriculum, ResolvedPart
from etude_sampler.statistics import Note

from .naming import checked, configured, fault, named
from .parts import Context, PartConfig
from .presets import PRESETS
from .table import part_table

LANE_OF: Mapping[LanesBy, str] = {"subtasks": "sub-task", "source": "source", "level": "level"}
"""What a lane stands for, in words."""


def lanes_by(config: CurriculumConfig) -> LanesBy:
    """What the component lanes of the curriculum are. Raises `ConfigFault`: unknown preset."""
    preset = named(PRESETS, config.preset, where=("preset",), what="preset")
    return config.lanes_by or preset.lanes_by


def reads_features(config: CurriculumConfig) -> bool:
    """Whether the weigher reads features of tasks; unknown names are left to `resolve`."""
    preset = PRESETS.get(config.preset)
    name = "" if preset is None else preset.weigher.name
    part = part_table().weighers.get(name if config.weigher is None else config.weigher.name)
    return part is not None and part.reads_features


def notes_of_parts(resolved: ResolvedCurriculum, context: Context) -> tuple[Note, ...]:
    """The notes of all parts, each once, in the order of the kinds.

    Raises:
        ConfigFault: two parts keep different notes of one name.
    """
    table = part_table()
    found: dict[str, Note] = {}
    for kind, part in resolved:
        parts: Mapping[str, type[PartConfig]] | None = getattr(table, f"{kind}s", None)
        if not isinstance(part, ResolvedPart) or parts is None:
            continue
        config = configured(parts, part, kind=kind)
        for note in checked(config.remembers, context, kind=kind):
            if found.setdefault(note.name, note) != note:
                raise fault((kind,), f"another part keeps another note {note.name!r} of tasks")
    return tuple(found.values())
