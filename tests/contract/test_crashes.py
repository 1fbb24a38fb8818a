"""A call that ends in an error that nobody foresaw, or is cut off by a stop: what its caller gets.

The app is the real one with one more route, which does what no route of ours should.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from etude_proto.v1 import Problem

_SAFE = {"x-content-type-options": "nosniff", "x-frame-options": "DENY"}


async def test_a_crash_is_a_problem_with_an_id_and_headers(
    sampler: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash() -> None:
        raise ZeroDivisionError("secret detail")

    sampler.add_api_route("/crash", crash)
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        answer = await http.get("/crash", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine"
    assert _SAFE.items() <= dict(answer.headers).items()
    found = Problem.model_validate_json(answer.content)
    assert (found.status, found.code, found.request_id) == (500, "internal", "mine")
    assert "secret" not in answer.text
    crashes = [record for record in caplog.records if record.message == "request.crashed"]
    assert len(crashes) == 1
    assert crashes[0].exc_info is not None


async def test_a_call_that_is_cut_off_may_come_again(sampler: FastAPI) -> None:
    entered, sent = asyncio.Event(), list[Message]()

    async def stuck() -> None:
        entered.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    sampler.add_api_route("/stuck", stuck)
    scope = {
        **{"type": "http", "method": "GET", "path": "/stuck", "raw_path": b"/stuck"},
        **{"query_string": b"", "headers": [], "scheme": "http", "server": ("sampler", 80)},
    }
    call = asyncio.create_task(sampler(scope, receive, send))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (sent[0]["status"], len(sent)) == (503, 2)
    found = Problem.model_validate_json(sent[1]["body"])
    assert (found.code, found.retryable) == ("dependency_unavailable", True)
