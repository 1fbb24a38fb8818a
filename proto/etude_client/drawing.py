"""Calls behind the dashboard's pictures, for both clients; the others are in `operations.py`."""

from __future__ import annotations

from urllib.parse import quote

from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import Activity, Distributions, Series

from .call import Answer, Call, json_decoder
from .connections import AsyncConnection, Connection


def _run(run_id: str, rest: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}{rest}"


def get_series(run_id: str, *, points: int | None, figure: str | None) -> Call[Series]:
    given = {"points": points, "figure": figure}
    params: dict[str, str | int] = {n: value for n, value in given.items() if value is not None}
    return Call("GET", _run(run_id, "/series"), json_decoder(Series), params=params)


def get_activity(run_id: str) -> Call[Activity]:
    return Call("GET", _run(run_id, "/activity"), json_decoder(Activity))


def get_distributions(run_id: str) -> Call[Distributions]:
    return Call("GET", _run(run_id, "/distributions"), json_decoder(Distributions))


def get_trajectories(run_id: str, task_id: str, lease_id: str) -> Call[bytes]:
    path = f"/tasks/{quote(task_id, safe='')}/trajectories/{quote(lease_id, safe='')}"
    accept = f"{SAFETENSORS_MEDIA_TYPE}, application/problem+json"
    return Call("GET", _run(run_id, path), _body, headers={"accept": accept})


def _body(answer: Answer) -> bytes:
    return answer.body


class AsyncDrawingCalls(AsyncConnection):
    """The drawing calls of `AsyncEtudeClient`."""

    async def get_series(
        self, run_id: str, *, points: int | None = None, figure: str | None = None
    ) -> Series:
        """The history in few points, with one of the trainer's figures."""
        return await self._send(get_series(run_id, points=points, figure=figure))

    async def get_activity(self, run_id: str) -> Activity:
        """Ready queue, leases and workers now."""
        return await self._send(get_activity(run_id))

    async def get_distributions(self, run_id: str) -> Distributions:
        """Histograms of success rates, visits and weights."""
        return await self._send(get_distributions(run_id))

    async def get_trajectories(self, run_id: str, task_id: str, lease_id: str) -> bytes:
        """A group's trajectories (`decode_group`), while they wait to be trained on."""
        return await self._send(get_trajectories(run_id, task_id, lease_id))


class DrawingCalls(Connection):
    """The drawing calls of `EtudeClient`."""

    def get_series(
        self, run_id: str, *, points: int | None = None, figure: str | None = None
    ) -> Series:
        """The history in few points, with one of the trainer's figures."""
        return self._send(get_series(run_id, points=points, figure=figure))

    def get_activity(self, run_id: str) -> Activity:
        """Ready queue, leases and workers now."""
        return self._send(get_activity(run_id))

    def get_distributions(self, run_id: str) -> Distributions:
        """Histograms of success rates, visits and weights."""
        return self._send(get_distributions(run_id))

    def get_trajectories(self, run_id: str, task_id: str, lease_id: str) -> bytes:
        """A group's trajectories (`decode_group`), while they wait to be trained on."""
        return self._send(get_trajectories(run_id, task_id, lease_id))
