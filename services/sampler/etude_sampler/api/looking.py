"""Routes that only look: curriculum, history, tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from etude_proto.v1 import MAX_PAGE, CurriculumView, HistoryPage, TaskPage, TaskView

from ..service.sampler import Sampler
from ..service.views import RECENT_VERSIONS
from .deps import sampler_of
from .replies import decode_cursor, encode_cursor, reply
from .schema import answer

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["looking"])
S = Annotated[Sampler, Depends(sampler_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
Order = Literal["ordinal", "hardest", "easiest", "unseen", "stalest"]
Window = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Filter = Annotated[str | None, Query(max_length=128)]


@router.get(
    "/curriculum",
    operation_id="get_curriculum",
    responses=answer(CurriculumView),
    response_class=Response,
)
async def get_curriculum(run_id: str, sampler: S, window: Window = RECENT_VERSIONS) -> Response:
    """Mastery, lanes, arms and counts now; recent arms cover the newest `window` versions."""
    return reply(await sampler.views.curriculum(run_id, window=window))


@router.get(
    "/history",
    operation_id="get_history",
    responses=answer(HistoryPage),
    response_class=Response,
)
async def get_history(
    run_id: str, sampler: S, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """One point a policy version, oldest first."""
    after = decode_cursor("history", cursor, int)
    page, last = await sampler.views.history(
        run_id, after=-1 if after is None else after, limit=limit
    )
    return reply(page.model_copy(update={"next_cursor": encode_cursor("history", last)}))


@router.get(
    "/tasks", operation_id="list_tasks", responses=answer(TaskPage), response_class=Response
)
async def list_tasks(  # noqa: PLR0917 - query parameters, by name
    run_id: str,
    sampler: S,
    limit: Limit = 100,
    cursor: Cursor = None,
    order: Order = "ordinal",
    subtask: Filter = None,
    source: Filter = None,
) -> Response:
    """Tasks of the run with their statistics."""
    kind = f"tasks:{order}:{subtask}:{source}"
    offset = decode_cursor(kind, cursor, int) or 0
    page, more = await sampler.task_views.page(
        run_id, order=order, subtask=subtask, source=source, offset=max(0, offset), limit=limit
    )
    return reply(page.model_copy(update={"next_cursor": encode_cursor(kind, more)}))


@router.get(
    "/tasks/{task_id}",
    operation_id="get_task",
    responses=answer(TaskView),
    response_class=Response,
)
async def get_task(run_id: str, task_id: str, sampler: S) -> Response:
    """One task: its statistics, why it has its weight, its last groups."""
    return reply(await sampler.task_views.one(run_id, task_id))
