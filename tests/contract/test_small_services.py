"""The small APIs of rollout and trainer keep the conventions too: problems, health, fields."""

from __future__ import annotations

import httpx
import pytest

from etude_proto.v1 import Problem

from .conftest import APPS


@pytest.mark.parametrize("name", ["rollout", "trainer"])
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
async def test_refusals_are_problems(
    name: str, method: str, path: str, status: int, code: str
) -> None:
    transport = httpx.ASGITransport(APPS[name](), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://small") as http:
        answer = await http.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    assert problem.request_id == answer.headers["x-request-id"]


async def test_malformed_prompts_are_refused_by_field() -> None:
    transport = httpx.ASGITransport(APPS["rollout"](), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://small") as http:
        answer = await http.post("/v1/rollouts", json={"messages": [], "n": 1})
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.code) == (422, "payload_invalid")
    assert {item.pointer for item in problem.errors} == {"/messages", "/n"}
