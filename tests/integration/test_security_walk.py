"""Every route of the sampler, without a key, with each scope, and with another run's key.

The routes come from the app itself, so one that is added is walked too. Calls carry no body: a key
is checked before anything else is read, so an allowed call ends in a complaint about that.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import Route

from etude_proto.keys import new_key
from etude_proto.v1 import Key, KeyCreate, RunPage, Scope
from etude_sampler.api.access import NEEDS, OPEN_CALLS, needed
from etude_sampler.app import create_app
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from support.contract import JsonObject, operations
from support.sampler_app import Api, parse, problem, sampler_app
from support.waiting import wait_until

BOOT = "bootstrap-key"
OPEN_PATHS = {"/livez", "/readyz", "/startupz", "/health", "/openapi.json", "/", "/static/{name}"}
ADMIN_ONLY = {"create_key", "list_keys", "get_key", "revoke_key", "create_dataset", "create_run"}
DOCUMENT: JsonObject = create_app(Settings(_env_file=None)).openapi()
OPERATIONS = operations(DOCUMENT) | {"metrics": ("GET", "/metrics")}
CLOSED = sorted(set(OPERATIONS) - OPEN_CALLS)


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of everything that the app answers."""
    pending = list(create_app(Settings(_env_file=None)).routes)
    while pending:
        route = pending.pop()
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            pending += inner.routes
            continue
        assert isinstance(route, (APIRoute, Route)), route
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                yield method, route.path


@dataclass(frozen=True, slots=True)
class Place:
    """Ids to put into a path."""

    run_id: str
    lease_id: str
    training_id: str
    dataset_id: str
    key_id: str = "key_000000000000"

    def path(self, operation: str) -> str:
        """An operation's path with these ids."""
        template = OPERATIONS[operation][1]
        training = template.startswith("/v1/training-batches/")
        ids = {
            "run_id": self.run_id,
            "lease_id": self.training_id if training else self.lease_id,
            "dataset_id": self.dataset_id,
            "key_id": self.key_id,
        }
        return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "none_0"), template)


@dataclass(frozen=True, slots=True)
class World:
    """Two runs with live leases of both kinds, behind a sampler that asks for keys."""

    api: Api
    mine: Place
    other: Place

    async def status(self, operation: str, place: Place, key: str | None) -> httpx.Response:
        """Call an operation with a key and without a body."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        method = OPERATIONS[operation][0]
        return await self.api.http.request(
            method, place.path(operation), headers={**headers, "Cookie": ""}
        )

    async def key(self, *scopes: Scope, **more: object) -> str:
        """A stored key's text."""
        return (await self.stored(*scopes, **more))[0]

    async def stored(self, *scopes: Scope, **more: object) -> tuple[str, str]:
        """A stored key's text and id."""
        made = new_key()
        body = KeyCreate.model_validate(
            {"id": made.id, "digest": made.digest, "label": "walk", "scopes": scopes, **more}
        )
        parse(await self.api.post("/v1/keys", body), Key, 201)
        return made.text, made.id


async def _place(api: Api, name: str) -> Place:
    run = await api.create_run(name=name, limits={"training_batch_groups": 1})
    batch = await api.lease(run.id, 2)
    await api.report_cargo(batch)
    frame = await api.train(run.id, num_groups=1)
    lease = await api.lease(run.id, 1)
    assert lease.lease is not None
    assert frame.manifest.lease is not None
    return Place(run.id, lease.lease.id, frame.manifest.lease.id, run.dataset_id)


@asynccontextmanager
async def _world(database_url: str, redis_url: str) -> AsyncIterator[World]:
    async with sampler_app(database_url, redis_url, api_keys=BOOT, rate_per_s=0) as api:
        api.http.headers["Authorization"] = f"Bearer {BOOT}"
        mine, other = await _place(api, "mine"), await _place(api, "other")
        del api.http.headers["Authorization"]
        keyed = Api(api.http)
        yield World(_Admin(keyed), mine, other)


class _Admin(Api):
    """Posts with the bootstrap key; other calls carry what the test gives them."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.http)

    async def post(self, path: str, body: object = None, **more: object) -> httpx.Response:
        """As `Api.post`, with the bootstrap key."""
        more["headers"] = {"Authorization": f"Bearer {BOOT}"}
        return await super().post(path, body, **more)  # type: ignore[arg-type]


@pytest.fixture
async def world(database_url: str, valkey: RunningServer) -> AsyncIterator[World]:
    """Two runs behind keys."""
    async with _world(database_url, valkey.url) as made:
        yield made


def test_every_route_is_open_by_name_or_closed() -> None:
    closed = {path for _, path in OPERATIONS.values()} - OPEN_PATHS
    assert {path for _, path in routes()} == OPEN_PATHS | closed


def test_every_operation_names_its_scope() -> None:
    assert set(NEEDS) == set(CLOSED)
    assert {name for name, scope in NEEDS.items() if scope is Scope.ADMIN} >= ADMIN_ONLY
    assert needed("an operation that nobody declared") is Scope.ADMIN


def test_openapi_says_what_a_call_needs() -> None:
    paths = DOCUMENT["paths"]
    assert isinstance(paths, dict)
    for item in paths.values():
        for operation in item.values():
            name = operation["operationId"]
            wanted = [] if name in OPEN_CALLS else [{"bearer": [NEEDS[name].value]}]
            assert operation["security"] == wanted, name


async def test_without_a_key_or_with_a_wrong_one(world: World) -> None:
    unknown = new_key().text
    for operation in CLOSED:
        for key in (None, "wrong", unknown, f"{BOOT} ", f"{BOOT}x"):
            answer = await world.status(operation, world.mine, key)
            if key == f"{BOOT} ":  # blanks around a key are no part of it
                assert answer.status_code != 401
                continue
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer", operation
    for path in OPEN_PATHS - {"/static/{name}"}:
        assert (await world.api.http.get(path)).status_code == 200, path


async def test_a_scope_opens_its_own_calls_and_looking(world: World) -> None:
    keys = {scope: await world.key(scope) for scope in Scope}
    for operation in CLOSED:
        for scope, key in keys.items():
            answer = await world.status(operation, world.mine, key)
            allowed = scope is Scope.ADMIN or NEEDS[operation] in (scope, Scope.READ)
            if allowed:
                assert answer.status_code not in (401, 403), (operation, scope, answer.text)
            else:
                problem(answer, 403, "forbidden")
    both = await world.key(Scope.ROLLOUT, Scope.TRAINER)
    for operation in ("report_groups", "ack_training_batch"):
        assert (await world.status(operation, world.mine, both)).status_code == 400


async def test_another_run_is_refused_whether_it_exists_or_not(world: World) -> None:
    by_id = await world.key(*Scope, runs=[world.mine.run_id])
    by_name = await world.key(*Scope, runs=["mine"])
    none = Place("run_ffffffffffff", "lease_" + "0" * 32, "tb_" + "0" * 32, "ds_none")
    odd = Place("run_%20", "lease_x", "tb_x", "ds_none")
    for key in (by_id, by_name):
        for operation in CLOSED:
            path = OPERATIONS[operation][1]
            of_run = "{run_id}" in path or "{lease_id}" in path
            for place in (world.other, none, odd):
                answer = await world.status(operation, place, key)
                if operation == "list_runs":
                    page = parse(answer, RunPage)
                    assert [run.id for run in page.items] == [world.mine.run_id]
                else:
                    problem(answer, 403, "forbidden")
            if of_run:
                answer = await world.status(operation, world.mine, key)
                assert answer.status_code not in (401, 403), (operation, answer.text)


async def test_a_name_like_an_id_opens_no_run_of_that_id(world: World) -> None:
    """Whoever may name a run cannot make a key for another one fit it."""
    key = await world.key(Scope.READ, runs=["run_ffffffffffff"])
    headers = {"If-Match": '"1"', "Authorization": f"Bearer {BOOT}", "Idempotency-Key": "rename"}
    renamed = await world.api.http.patch(
        f"/v1/runs/{world.other.run_id}", json={"name": "run_ffffffffffff"}, headers=headers
    )
    assert renamed.status_code == 200, renamed.text
    problem(await world.status("get_run", world.other, key), 403, "forbidden")


async def test_a_key_that_is_over_or_revoked_opens_nothing(world: World) -> None:
    short = await world.key(Scope.ADMIN, ttl_s=1)
    ended, ended_id = await world.stored(Scope.ADMIN)
    assert (await world.status("list_runs", world.mine, short)).status_code == 200
    assert (await world.status("list_runs", world.mine, ended)).status_code == 200
    parse(await world.api.post(f"/v1/keys/{ended_id}/revoke"), Key)

    async def is_over() -> bool:
        return (await world.status("list_runs", world.mine, short)).status_code == 401

    await wait_until(is_over, what="a key of one second is over", timeout_s=4.0)
    for operation in CLOSED:
        for key in (short, ended):
            problem(await world.status(operation, world.mine, key), 401, "unauthorized")
