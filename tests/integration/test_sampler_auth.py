"""Bearer keys: asked for when there are any; health is open; nothing else tells anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude_sampler.app import create_app
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from support.sampler_app import Api, problem, sampler_app

OPEN = ("/livez", "/readyz", "/startupz", "/health")
CLOSED = (
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs/run_none/curriculum"),
    ("PATCH", "/v1/runs/run_none"),
    ("POST", "/v1/leases/lease_none/groups"),
    ("POST", "/v1/datasets/ds_none/tasks"),
    ("GET", "/metrics"),
)


async def call(api: Api, method: str, path: str, **headers: str) -> int:
    """The status; a refusal must be a problem document."""
    answer = await api.http.request(method, path, headers=headers)
    if answer.status_code == 401:
        found = problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert not found.retryable
    return answer.status_code


async def test_calls_need_a_key_when_there_is_one(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    file = short_folder / "keys"
    file.write_text("from-a-file\n\n")
    async with sampler_app(
        database_url, valkey.url, api_keys="first, second", api_keys_file=file
    ) as api:
        for path in OPEN:
            assert (await api.get(path)).status_code == 200
        for method, path in CLOSED:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer "},
                {"Authorization": "Basic first"},
                {"Authorization": "first"},
                {"Authorization": "Bearer first, second"},
            ):
                assert await call(api, method, path, **headers) == 401, (method, path, headers)
        for key in ("first", "second", "from-a-file"):
            assert await call(api, "GET", "/v1/runs", Authorization=f"Bearer {key}") == 200
            assert await call(api, "GET", "/metrics", Authorization=f"bearer {key}") == 200


async def test_without_keys_all_is_open_on_loopback(valkey_api: Api) -> None:
    assert await call(valkey_api, "GET", "/v1/runs") == 200
    assert await call(valkey_api, "GET", "/metrics") == 200


async def test_it_refuses_to_listen_on_the_world_without_keys(
    database_url: str, valkey: RunningServer
) -> None:
    settings = Settings(database_url=database_url, redis_url=valkey.url, host="0.0.0.0")
    app = create_app(settings)
    with pytest.raises(RuntimeError, match="ETUDE_API_KEYS"):
        async with app.router.lifespan_context(app):
            pass


async def test_request_ids_come_back(valkey_api: Api) -> None:
    given = await valkey_api.http.get("/livez", headers={"X-Request-Id": "my-id.1"})
    assert given.headers["x-request-id"] == "my-id.1"
    for bad in ("two words", "x" * 65, ""):
        made = await valkey_api.http.get("/livez", headers={"X-Request-Id": bad})
        assert made.headers["x-request-id"] != bad
        assert len(made.headers["x-request-id"]) == 16
    assert given.headers["x-content-type-options"] == "nosniff"
