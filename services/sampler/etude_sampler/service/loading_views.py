"""How far a run's rebuild is, and what the last one did, for the views."""

from __future__ import annotations

from etude_proto.v1 import LoadProgress, Rebuild

from ..errors import SamplerError
from ..ports.catalog import RunRow
from .rebuild import fault
from .steps import Ground


def last_rebuild(row: RunRow) -> Rebuild | None:
    """What the newest rebuild of a run found and did."""
    if row.last_rebuild is None:
        return None
    return Rebuild.model_validate({"run_id": row.id, **row.last_rebuild})


async def progress(ground: Ground, run_id: str) -> LoadProgress | None:
    """How far the load of a run is; None while it is served, or while Redis does not answer."""
    stored = await ground.catalog.run_markers(run_id)
    if not stored:
        return None  # deleted since
    ((_, wanted),) = stored
    try:
        (found,) = await ground.races.progress([run_id])
        (marker,) = await ground.races.markers([run_id])
        if fault(wanted, marker) is None:
            return None
    except SamplerError:
        return None
    num_tasks = 0 if found is None else found.num_tasks
    num_loaded = 0 if found is None else min(found.num_loaded, num_tasks)
    return LoadProgress(
        num_loaded=num_loaded,
        num_tasks=num_tasks,
        share=num_loaded / num_tasks if num_tasks else 0.0,
    )
