"""Routes that only look: curriculum, history, tasks, and what the dashboard draws.

Answers carry an entity tag; whoever sends it back gets 304 while nothing has changed.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import (
    MAX_PAGE,
    Activity,
    CurriculumView,
    Distributions,
    HistoryPage,
    Series,
    TaskPage,
    TaskView,
)

from ..service.exploring import Asked, Only, Order
from ..service.sampler import Sampler
from ..service.views import RECENT_VERSIONS
from .deps import sampler_of
from .replies import decode_cursor, encode_cursor, reply
from .schema import answer, cargo_answer

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["looking"])
S = Annotated[Sampler, Depends(sampler_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
Window = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Filter = Annotated[str | None, Query(max_length=128)]
Text = Annotated[str | None, Query(min_length=1, max_length=128)]
NumPoints = Annotated[int, Query(ge=10, le=MAX_PAGE)]


def tagged(request: Request, model: BaseModel) -> Response:
    """A model with its entity tag, or 304 for whoever has it already."""
    content = model.model_dump_json().encode()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    given = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
    if given & {tag, "*"}:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, headers={"ETag": tag}, media_type="application/json")


@router.get(
    "/curriculum",
    operation_id="get_curriculum",
    responses=answer(CurriculumView),
    response_class=Response,
)
async def get_curriculum(
    request: Request, run_id: str, sampler: S, window: Window = RECENT_VERSIONS
) -> Response:
    """Mastery, lanes, arms and counts now; recent arms cover the newest `window` versions."""
    return tagged(request, await sampler.views.curriculum(run_id, window=window))


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


@router.get("/series", operation_id="get_series", responses=answer(Series), response_class=Response)
async def get_series(
    request: Request, run_id: str, sampler: S, points: NumPoints = 240, figure: Text = None
) -> Response:
    """The history in at most `points` points, with one of the trainer's figures."""
    return tagged(request, await sampler.looks.series.series(run_id, points=points, figure=figure))


@router.get(
    "/activity", operation_id="get_activity", responses=answer(Activity), response_class=Response
)
async def get_activity(request: Request, run_id: str, sampler: S) -> Response:
    """Ready queue by age, live leases, workers, the newest decisions."""
    return tagged(request, await sampler.looks.activity.activity(run_id))


@router.get(
    "/distributions",
    operation_id="get_distributions",
    responses=answer(Distributions),
    response_class=Response,
)
async def get_distributions(request: Request, run_id: str, sampler: S) -> Response:
    """Histograms of success rates, visits and weights, over a sample of a large run."""
    return tagged(request, await sampler.looks.distributions.distributions(run_id))


@router.get(
    "/tasks", operation_id="list_tasks", responses=answer(TaskPage), response_class=Response
)
async def list_tasks(  # noqa: PLR0917 - query parameters, by name
    request: Request,
    run_id: str,
    sampler: S,
    limit: Limit = 100,
    cursor: Cursor = None,
    order: Order = "ordinal",
    only: Only | None = None,
    subtask: Filter = None,
    source: Filter = None,
    q: Text = None,
) -> Response:
    """Tasks of the run with their statistics; `q` is an id's beginning, `#number`, or words.

    `unseen` and `parked` tasks come in the order of import; `improved` are those that gained over
    the newest groups.
    """
    asked = Asked(order, only, subtask, source, q)
    place = decode_cursor(asked.kind, cursor, str)
    page, after = await sampler.looks.explorer.page(run_id, asked, cursor=place, limit=limit)
    return tagged(
        request, page.model_copy(update={"next_cursor": encode_cursor(asked.kind, after)})
    )


@router.get(
    "/tasks/{task_id}",
    operation_id="get_task",
    responses=answer(TaskView),
    response_class=Response,
)
async def get_task(request: Request, run_id: str, task_id: str, sampler: S) -> Response:
    """One task: its statistics, why it has its weight, its last groups."""
    return tagged(request, await sampler.task_views.one(run_id, task_id))


@router.get(
    "/tasks/{task_id}/trajectories/{lease_id}",
    operation_id="get_trajectories",
    responses=cargo_answer(),
    response_class=Response,
)
async def get_trajectories(run_id: str, task_id: str, lease_id: str, sampler: S) -> Response:
    """A group's trajectories as they were reported, while they wait to be trained on."""
    body = await sampler.task_views.trajectories(run_id, task_id, lease_id)
    return Response(body, media_type=SAFETENSORS_MEDIA_TYPE)
