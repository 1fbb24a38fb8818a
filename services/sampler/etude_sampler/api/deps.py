"""What every route needs of the app and of the URL. Who may call it: `access`."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from etude_proto.v1 import ProblemItem

from ..errors import BadRequest, DependencyUnavailable, PayloadInvalid
from ..service.sampler import Sampler


async def sampler_of(request: Request) -> Sampler:
    """The wired sampler. Raises `DependencyUnavailable` while the app starts."""
    sampler = getattr(request.app.state, "sampler", None)
    if not isinstance(sampler, Sampler):
        raise DependencyUnavailable("the service is starting")
    return sampler


async def check_url(request: Request) -> None:
    """Refuse what no call understands: NUL, which PostgreSQL cannot compare, unknown parameters.

    Raises:
        BadRequest: the URL holds a NUL character.
        PayloadInvalid: it names a parameter that the call does not have.
    """
    query = request.scope["query_string"]
    if "\x00" in request.scope["path"] or b"%00" in query:
        raise BadRequest("the URL holds a NUL character")
    if query:
        route: Any = request.scope["route"]
        known = {parameter.alias for parameter in route.dependant.query_params}
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            raise PayloadInvalid(
                f"no such parameter: {', '.join(unknown[:20])}",
                errors=[
                    ProblemItem(pointer=f"/query/{name}", detail="no such parameter")
                    for name in unknown[:20]
                ],
            )
