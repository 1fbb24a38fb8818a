"""Keys over two replicas, without any, and from far away; what is counted; what is not logged."""

from __future__ import annotations

import time

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from etude_proto.keys import new_key
from etude_proto.v1 import Key, KeyCreate, KeyPage, Run, RunPage, Scope
from etude_sampler.app import create_app
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import RateLimited
from etude_sampler.service.callers import STALE_S
from etude_sampler.service.rates import Rates
from etude_sampler.settings import Settings
from etude_sampler.store.redis.connection import connect
from etude_sampler.store.redis.throttle import RedisThrottle
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.waiting import wait_until

BOOT = "bootstrap-key"


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {key}"}


async def make(api: Api, by: str | None, *scopes: Scope, **more: object) -> tuple[str, str]:
    """A stored key's text and id."""
    made = new_key()
    fields = {"id": made.id, "digest": made.digest, "label": "test", "scopes": scopes, **more}
    body = KeyCreate.model_validate(fields)
    answer = await api.post("/v1/keys", body, headers={} if by is None else bearer(by))
    parse(answer, Key, 201)
    return made.text, made.id


async def test_a_key_counts_on_every_replica_and_ends_on_every_replica(
    database_url: str, valkey: RunningServer
) -> None:
    async with (
        sampler_app(database_url, valkey.url, api_keys=BOOT) as first,
        sampler_app(database_url, valkey.url, api_keys=BOOT) as second,
    ):
        key, key_id = await make(first, BOOT, Scope.READ)
        for api in (first, second):
            assert (await api.http.get("/v1/runs", headers=bearer(key))).status_code == 200
        begun = time.monotonic()
        await first.post(f"/v1/keys/{key_id}/revoke", headers=bearer(BOOT))
        assert (await first.http.get("/v1/runs", headers=bearer(key))).status_code == 401

        async def is_refused() -> bool:
            return (await second.http.get("/v1/runs", headers=bearer(key))).status_code == 401

        await wait_until(is_refused, what="the other replica refuses it", timeout_s=STALE_S + 1)
        assert time.monotonic() - begun < STALE_S + 0.5


async def test_the_first_key_must_be_able_to_make_the_next(
    database_url: str, valkey: RunningServer
) -> None:
    async with sampler_app(database_url, valkey.url) as api:
        for scopes, more in (
            ([Scope.ROLLOUT], {}),
            ([Scope.ADMIN], {"runs": ["run_a"]}),
            ([Scope.ADMIN], {"ttl_s": 60}),
        ):
            made = new_key()
            fields = {"id": made.id, "digest": made.digest, "label": "x", "scopes": scopes, **more}
            refused = await api.post("/v1/keys", KeyCreate.model_validate(fields))
            problem(refused, 409, "illegal_transition")
        admin, admin_id = await make(api, None, Scope.ADMIN)
        problem(await api.get("/v1/runs"), 401, "unauthorized")
        read, _ = await make(api, admin, Scope.READ)
        page = parse(await api.http.get("/v1/keys", headers=bearer(admin)), KeyPage)
        assert len(page.items) == 2
        # Once there were keys, their end opens nothing.
        await api.post(f"/v1/keys/{admin_id}/revoke", headers=bearer(admin))
        problem(await api.get("/v1/runs"), 401, "unauthorized")
        problem(await api.http.get("/v1/keys", headers=bearer(admin)), 401, "unauthorized")
        assert (await api.http.get("/v1/runs", headers=bearer(read))).status_code == 200


async def test_the_database_holds_no_key(database_url: str, valkey: RunningServer) -> None:
    async with sampler_app(database_url, valkey.url, api_keys=BOOT) as api:
        key, key_id = await make(api, BOOT, Scope.ADMIN)
        assert (await api.http.get("/v1/keys", headers=bearer(key))).status_code == 200
        shown = parse(await api.http.get(f"/v1/keys/{key_id}", headers=bearer(key)), Key)
        assert shown.prefix == key[: len(shown.prefix)]
        tables = query(
            database_url, "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public'"
        )  # fmt: skip
        for (table,) in tables:
            rows = query(database_url, f'SELECT t::text FROM "{table}" AS t')
            assert key[20:] not in str(rows), table
            assert BOOT not in str(rows), table


async def test_creating_a_key_is_repeatable_and_ids_are_not_taken_over(
    database_url: str, valkey: RunningServer
) -> None:
    async with sampler_app(database_url, valkey.url, api_keys=BOOT) as api:
        made, other = new_key(), new_key()
        fields = {"id": made.id, "digest": made.digest, "label": "x", "scopes": ["read"]}
        answers = [
            await api.post("/v1/keys", fields, key=key, headers=bearer(BOOT))
            for key in ("one", "one", "two")
        ]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert answers[1].headers["idempotent-replayed"] == "true"
        stolen = {**fields, "digest": other.digest, "scopes": ["admin"]}
        problem(await api.post("/v1/keys", stolen, headers=bearer(BOOT)), 409, "illegal_transition")
        problem(
            await api.post("/v1/keys", stolen, key="one", headers=bearer(BOOT)),
            422,
            "idempotency_key_reused",
        )
        problem(await api.http.get("/v1/keys", headers=bearer(made.text)), 403, "forbidden")


async def test_without_keys_only_this_machine_is_answered(
    database_url: str, valkey: RunningServer
) -> None:
    app = create_app(Settings(database_url=database_url, redis_url=valkey.url))
    async with app.router.lifespan_context(app):
        for peer, host, status in (
            ("127.0.0.1", "127.0.0.1:8321", 200),
            ("::1", "[::1]:8321", 200),
            ("127.0.0.1", "localhost:8321", 200),
            ("10.0.0.7", "127.0.0.1:8321", 401),
            ("2001:db8::1", "[2001:db8::2]:8321", 401),
            ("127.0.0.1", "rebound.example.com:8321", 401),
            ("127.0.0.1", "10.0.0.7", 401),
        ):
            answer = await _runs_from(app, peer, host)
            assert answer.status_code == status, (peer, host)


async def _runs_from(app: FastAPI, peer: str, host: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=(peer, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        return await http.get("/v1/runs", headers={"Host": host})


async def test_stored_keys_do_not_work_while_nobody_can_ask_whether_they_ended(
    database_url: str, valkey: RunningServer
) -> None:
    settings = Settings(
        database_url="postgresql+asyncpg://etude:x@127.0.0.1:1/etude",
        redis_url=valkey.url,
        api_keys=SecretStr(BOOT),
        dependency_timeout_s=0.5,
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
            answer = await http.get("/metrics", headers=bearer(new_key().text))
            problem(answer, 503, "dependency_unavailable")
            assert answer.headers["retry-after"] == "1"
            assert (await http.get("/metrics", headers=bearer(BOOT))).status_code == 200


async def test_a_key_has_so_many_calls_on_all_replicas_together(
    database_url: str, redis_server: RunningServer
) -> None:
    bounds = {"api_keys": BOOT, "rate_per_s": 0.5, "rate_burst": 12}
    async with (
        sampler_app(database_url, redis_server.url, **bounds) as first,
        sampler_app(database_url, redis_server.url, **bounds) as second,
    ):
        key, _ = await make(first, BOOT, Scope.READ)
        begun = time.monotonic()
        answers = [
            await (first, second)[number % 2].http.get("/v1/runs", headers=bearer(key))
            for number in range(40)
        ]
        spent_s = time.monotonic() - begun
        good = [answer for answer in answers if answer.status_code == 200]
        assert 12 <= len(good) <= 13 + 0.5 * spent_s
        assert good[0].headers["ratelimit-policy"] == '"key";q=12;w=24'
        assert good[0].headers["ratelimit"].startswith('"key";r=')
        refused = problem(answers[-1], 429, "rate_limited")
        assert refused.retryable
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].headers["ratelimit"] in ('"key";r=0;t=1', '"key";r=0;t=2')
        # Another key has calls of its own, health asks for none.
        other, _ = await make(first, BOOT, Scope.READ)
        parse(await first.http.get("/v1/runs", headers=bearer(other)), RunPage)
        assert (await first.get("/readyz")).status_code == 200

        async def has_calls() -> bool:
            return (await second.http.get("/v1/runs", headers=bearer(key))).status_code == 200

        await wait_until(has_calls, what="calls come back")


async def test_a_replica_counts_by_itself_while_redis_is_away() -> None:
    redis = connect("redis://127.0.0.1:1/0", pool_size=2, timeout_s=0.5)
    rates = Rates(RedisThrottle(redis), per_s=2.0, burst=40)
    granted = 0
    for _ in range(60):
        try:
            await rates.spend("key_a")
        except RateLimited:
            continue
        granted += 1
    assert 40 <= granted <= 41
    await rates.spend("key_b")
    await redis.aclose()


@pytest.mark.parametrize("text", ["etk_", "etk_0123456789ab_short", "x" * 5000, "é"])
async def test_odd_keys_are_unknown_keys(
    database_url: str, valkey: RunningServer, text: str
) -> None:
    async with sampler_app(database_url, valkey.url, api_keys=BOOT) as api:
        headers = [(b"authorization", b"Bearer " + text.encode())]
        problem(await api.http.get("/v1/runs", headers=headers), 401, "unauthorized")


async def test_a_key_for_certain_runs_takes_no_other_run_s_name(
    database_url: str, valkey: RunningServer
) -> None:
    """Keys cover runs by name: who could name a run could put it under another's keys."""
    async with sampler_app(database_url, valkey.url, api_keys=BOOT) as api:
        api.http.headers.update(bearer(BOOT))
        run = await api.create_run(name="mine")
        key, _ = await make(api, BOOT, Scope.ADMIN, runs=["mine"])
        own = bearer(key)
        tag = own | {"If-Match": f'"{run.revision}"'}
        path = f"/v1/runs/{run.id}"
        problem(
            await api.post(path, {"name": "yours"}, method="PATCH", headers=tag), 403, "forbidden"
        )
        problem(await api.post(f"{path}/fork", {"name": "yours"}, headers=own), 403, "forbidden")
        parse(await api.post(f"{path}/fork", {"name": "mine"}, headers=own), Run, 201)
        parse(await api.post(path, {"name": "mine"}, method="PATCH", headers=tag), Run)
