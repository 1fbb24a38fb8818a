"""Every mutating call of the contract: a retry is the same answer, another body is refused."""

from __future__ import annotations

import json

import httpx
import pytest
from fastapi import FastAPI

from etude_client import AsyncEtudeClient
from etude_proto.v1 import Problem
from support.contract import openapi, operations

from .retried import KEY, TRIES, World

OPERATIONS = {
    name: place for name, place in operations(openapi("sampler")).items() if place[0] != "GET"
}

REPLAYED = "idempotent-replayed"
LEASING = {"lease_prompt_batch", "lease_training_batch", "extend_lease", "extend_training_batch"}
"""Their answer is made anew, from the lease that the key names."""


def test_every_mutating_call_is_tried() -> None:
    assert set(TRIES) == set(OPERATIONS)


@pytest.fixture
async def http(sampler: FastAPI) -> httpx.AsyncClient:
    """The way to the sampler."""
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sampler")


async def test_a_retry_is_the_same_answer_and_another_body_is_refused(
    client: AsyncEtudeClient, http: httpx.AsyncClient
) -> None:
    world, wrong = World(client), []
    for operation in TRIES:
        wrong += [f"{operation}: {fault}" for fault in await _faults(http, operation, world)]
    await http.aclose()
    assert not wrong, "\n".join(wrong)


async def _faults(http: httpx.AsyncClient, operation: str, world: World) -> list[str]:
    one = await TRIES[operation](world)
    method, path = OPERATIONS[operation]
    url, key = path.format(**one.ids), {"idempotency-key": f"try-{operation}"}

    async def call(body: object, **more: str) -> httpx.Response:
        headers = {"content-type": "application/json", **one.headers, **key, **more}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = b"" if body is None else content
        return await http.request(method, url, content=sent, headers=headers)

    first = await call(one.body)
    if not first.is_success:
        return [f"{first.status_code} {first.text}"]
    if operation == "create_key":  # the first one: from now on it is asked for
        for headers in (http.headers, world._client._transport._main.headers):
            headers["authorization"] = f"Bearer {KEY.text}"
    faults = []
    for again in (await call(one.body), await call(one.body)):
        if (again.status_code, again.content) != (first.status_code, first.content):
            faults.append(f"first {first.text[:300]}, then {again.status_code} {again.text[:300]}")
        marks = (first.headers.get(REPLAYED), again.headers.get(REPLAYED))
        if marks != (None, None if operation in LEASING else "true"):
            faults.append(f"{REPLAYED}: {marks}")
    if one.other is not None:
        changed = await call(one.other)
        if changed.is_success:
            return [*faults, "another body is taken"]
        code = Problem.model_validate_json(changed.content).code
        if (changed.status_code, code) != (422, "idempotency_key_reused"):
            faults.append(f"another body: {changed.status_code} {code}")
    missing = await http.request(method, url, content=b"{}", headers=one.headers)
    if missing.status_code != 400 or b"idempotency_key_missing" not in missing.content:
        faults.append(f"without a key: {missing.status_code} {missing.text}")
    return faults
