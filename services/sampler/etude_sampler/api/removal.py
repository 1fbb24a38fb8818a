"""Routes that delete: runs and datasets. Curriculum checkpoints: `travel`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from etude_proto.v1 import Deleted

from ..ports.retention import Removed
from ..service.sampler import Sampler
from .deps import sampler_of
from .replies import once_bare
from .schema import answer, no_body

router = APIRouter(prefix="/v1", tags=["control"])
S = Annotated[Sampler, Depends(sampler_of)]
Force = Annotated[bool, Query(description="Although leases are live; they are over then.")]


async def _removed(
    request: Request, sampler: Sampler, remove: Callable[[], Awaitable[Removed]]
) -> Response:
    async def work() -> Deleted:
        done = await remove()
        return Deleted(id=done.id, name=done.name)

    return await once_bare(request, sampler.ground.catalog, work)


@router.delete(
    "/runs/{run_id}",
    operation_id="delete_run",
    responses=answer(Deleted),
    openapi_extra=no_body(),
    response_class=Response,
)
async def delete_run(request: Request, run_id: str, sampler: S, force: Force = False) -> Response:
    """Delete a paused run, if none of its leases is live. Nothing brings it back but an archive."""
    return await _removed(request, sampler, lambda: sampler.removals.run(run_id, force=force))


@router.delete(
    "/datasets/{dataset_id}",
    operation_id="delete_dataset",
    responses=answer(Deleted),
    openapi_extra=no_body(),
    response_class=Response,
)
async def delete_dataset(request: Request, dataset_id: str, sampler: S) -> Response:
    """Delete a dataset that no run uses."""
    return await _removed(request, sampler, lambda: sampler.removals.dataset(dataset_id))
