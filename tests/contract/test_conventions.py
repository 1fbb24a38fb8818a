"""The REST conventions, held by every call of the committed OpenAPI document.

What a call says of itself is read from the document; what it does is tried on a running sampler in
`test_idempotency.py`, and with generated requests in `test_schemathesis.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from etude_proto.v1 import MAX_PAGE, Problem
from support.contract import openapi

ENVELOPES = re.compile(r"Page$")
OPERATION = re.compile(r"[a-z]+(_[a-z]+)+|livez|readyz|startupz")
ID = re.compile(r"[a-z]+_id")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the document."""

    method: str
    path: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """Its operationId."""
        return str(self.spec["operationId"])

    @property
    def is_mutating(self) -> bool:
        """Whether it may change anything."""
        return self.method != "get"

    def parameter(self, place: str, name: str) -> dict[str, Any] | None:
        """A declared parameter."""
        for found in self.spec.get("parameters", []):
            if (found["in"], found["name"].lower()) == (place, name.lower()):
                assert isinstance(found, dict)
                return found
        return None

    @property
    def answer(self) -> str:
        """Name of the model of its good JSON answer; empty for bytes."""
        for status, answer in self.spec["responses"].items():
            if status.startswith("2"):
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                return str(schema.get("$ref", "")).rsplit("/", 1)[-1]
        return ""


def _operations() -> Iterator[Operation]:
    document = openapi("sampler")
    paths = document["paths"]
    assert isinstance(paths, dict)
    for path, item in paths.items():
        for method, spec in item.items():
            yield Operation(method, path, spec)


ALL = list(_operations())
MUTATING = [one for one in ALL if one.is_mutating]
LISTS = [one for one in ALL if ENVELOPES.search(one.answer)]
CLOSED = [one for one in ALL if one.path.startswith("/v1/")]


def by_name(one: Operation) -> str:
    """Id of a parametrised test."""
    return one.name


@pytest.mark.parametrize("one", ALL, ids=by_name)
def test_names_and_ids(one: Operation) -> None:
    assert OPERATION.fullmatch(one.name)
    assert all(ID.fullmatch(name) for name in re.findall(r"\{(\w+)\}", one.path))
    words = [part for part in one.path.split("/")[2:] if not part.startswith("{")]
    last_is_verb = one.path.count("/") > 3 and not one.path.endswith("}") and one.is_mutating
    nouns = words[:-1] if last_is_verb else words
    singular = ("activity", "curriculum", "history")
    assert all(word.endswith("s") or word in singular for word in nouns), nouns


@pytest.mark.parametrize("one", MUTATING, ids=by_name)
def test_mutating_calls_take_a_key(one: Operation) -> None:
    key = one.parameter("header", "Idempotency-Key")
    assert key is not None
    assert key["required"] is True
    assert key["schema"]["maxLength"] == 255


@pytest.mark.parametrize("one", LISTS, ids=by_name)
def test_lists_have_pages(one: Operation) -> None:
    limit, cursor = one.parameter("query", "limit"), one.parameter("query", "cursor")
    assert limit is not None
    assert cursor is not None
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, MAX_PAGE)
    components = openapi("sampler")["components"]
    assert isinstance(components, dict)
    fields = components["schemas"][one.answer]["properties"]
    assert {"items", "next_cursor"} <= set(fields)


def test_what_answers_with_items_is_a_list() -> None:
    """No list hides behind another name."""
    components = openapi("sampler")["components"]
    assert isinstance(components, dict)
    for one in ALL:
        fields = components["schemas"].get(one.answer, {}).get("properties", {})
        if not one.is_mutating and "items" in fields:
            assert one in LISTS, one.name


@pytest.mark.parametrize("one", ALL, ids=by_name)
def test_reading_calls_take_no_body(one: Operation) -> None:
    if not one.is_mutating:
        assert "requestBody" not in one.spec


@pytest.mark.parametrize("one", CLOSED, ids=by_name)
def test_a_call_names_one_scope(one: Operation) -> None:
    (need,) = one.spec["security"]
    (scope,) = need["bearer"]
    assert scope in ("admin", "trainer", "rollout", "read")
    assert one.is_mutating or scope in ("read", "admin")


async def test_every_call_refuses_what_it_does_not_know(sampler: FastAPI) -> None:
    """An unknown parameter, a page over the limit, a cursor of nobody: by name, as a problem."""
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        for one in CLOSED:
            path = re.sub(r"\{\w+\}", "none_0", one.path)
            tries: list[tuple[str, int, str | None]] = [("?bogus=1", 422, "/query/bogus")]
            if one in LISTS:
                tries += [(f"?limit={MAX_PAGE + 1}", 422, "/query/limit"), ("?cursor=x", 410, None)]
            for query, status, pointer in tries:
                answer = await http.request(one.method.upper(), path + query)
                assert answer.headers["content-type"] == "application/problem+json", one.name
                problem = Problem.model_validate_json(answer.content)
                assert answer.status_code in (status, 404), (one.name, query, problem)
                if pointer is not None:
                    assert pointer in [item.pointer for item in problem.errors], one.name


async def test_every_answer_carries_the_headers_that_protect(sampler: FastAPI) -> None:
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        for path in ("/v1/runs", "/v1/nothing", "/v1/runs?limit=0", "/livez", "/metrics", "/"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY", path
            assert headers["referrer-policy"] == "no-referrer", path
            assert headers["cache-control"] == "no-store", path
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy, path
            assert "unsafe" not in policy, path
            for name in ("x-content-type-options", "cache-control", "content-security-policy"):
                assert len(headers.get_list(name)) == 1, (path, name)
        assert (
            "access-control-allow-origin"
            not in (await http.get("/v1/runs", headers={"Origin": "https://evil.example"})).headers
        )


async def test_the_refusal_of_a_method_names_the_others(sampler: FastAPI) -> None:
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:
        for path, allowed in (
            ("/v1/runs/run_1", "DELETE, GET, PATCH"),
            ("/v1/runs", "GET, POST"),
            ("/v1/runs/run_1/pause", "POST"),
            ("/livez", "GET"),
        ):
            answer = await http.put(path)
            assert (answer.status_code, answer.headers.get_list("allow")) == (405, [allowed])


async def test_media_types_are_compared_without_case(sampler: FastAPI) -> None:
    transport = httpx.ASGITransport(sampler, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as http:

        async def post(path: str, kind: str, body: bytes) -> httpx.Response:
            headers = {"idempotency-key": path, "content-type": kind}
            return await http.post(path, content=body, headers=headers)

        made = await post("/v1/datasets", "Application/JSON; charset=utf-8", b'{"name": "x"}')
        assert made.status_code == 201, made.text
        place = f"/v1/datasets/{made.json()['id']}/tasks"
        assert (await post(place, "Application/X-NDJSON", b"")).status_code == 200
        report = await post("/v1/leases/lease_x/groups", "APPLICATION/json", b"{}")
        assert report.status_code == 422, "read as JSON, and refused as a report"
