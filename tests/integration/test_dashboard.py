"""The dashboard: what is served, that it needs nothing else, and that it reads the real contract.

Its scripts say what they read: a comment `@reads name: Model` declares that the variable `name`
holds that answer of the API, and every member they take from it must be a field of the model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import httpx
import pytest
from pydantic import BaseModel, SecretStr

from etude_client import AsyncEtudeClient
from etude_client.operations import TaskOrder
from etude_proto import v1
from etude_sampler.app import create_app
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from support.workload import lines, report_of, task

STATIC = {
    entry.name: entry.read_text(encoding="utf-8")
    for entry in (files("etude_sampler") / "dashboard" / "static").iterdir()
}
SCRIPTS = {name: text for name, text in STATIC.items() if name.endswith(".js")}
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PROJECT = Path(__file__).resolve().parents[2] / "services" / "sampler" / "pyproject.toml"
KEY = "a-key-of-this-test"
READS = re.compile(r"^// @reads (\w+): (\w+)$", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\w])//[^\n]*", re.DOTALL)
CHAIN = re.compile(r"(?<![\w.$])([A-Za-z_$]\w*)((?:\??\.[A-Za-z_]\w*)+)")


@pytest.fixture
async def sampler(
    database_url: str, valkey: RunningServer
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """The way to a started sampler that asks for a key."""
    settings = Settings(database_url=database_url, redis_url=valkey.url, api_keys=SecretStr(KEY))
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield httpx.ASGITransport(app)


@pytest.fixture
async def http(sampler: httpx.AsyncBaseTransport) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's way to it, without the key."""
    async with httpx.AsyncClient(transport=sampler, base_url="http://sampler") as opened:
        yield opened


@pytest.fixture
async def page() -> AsyncIterator[httpx.AsyncClient]:
    """The app before it has started: the page needs neither PostgreSQL nor Redis."""
    transport = httpx.ASGITransport(create_app(Settings(_env_file=None)))
    async with httpx.AsyncClient(transport=transport, base_url="http://sampler") as opened:
        yield opened


async def test_the_page_is_served_with_a_policy_that_allows_no_inline_code(
    page: httpx.AsyncClient,
) -> None:
    answer = await page.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES["html"]
    assert answer.text == STATIC["page.html"]
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy.pop("default-src") == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", sorted(STATIC))
async def test_every_part_is_served_with_its_type(page: httpx.AsyncClient, name: str) -> None:
    answer = await page.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.text == STATIC[name]
    assert answer.headers["content-type"] == TYPES[name.rpartition(".")[2]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("name", ["page.py", "..%2fpage.py", "%2e%2e/page.py", "static", "a/b.js"])
async def test_nothing_else_is_served(page: httpx.AsyncClient, name: str) -> None:
    answer = await page.get(f"/static/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_page_holds_no_inline_code() -> None:
    html = STATIC["page.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    for name, text in SCRIPTS.items():
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        )
        assert not found, f"{name}: text of the API must never become markup or code"


def test_everything_that_is_named_is_shipped_and_nothing_comes_from_elsewhere() -> None:
    named = set(re.findall(r"(?:src|href)=\"static/([^\"]+)\"", STATIC["page.html"]))
    for text in SCRIPTS.values():
        named |= set(re.findall(r"from \"\./([^\"]+)\"", text))
    assert named | {"page.html"} == set(STATIC)
    for name, text in STATIC.items():
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert "url(" not in text, name
        assert "@import" not in text, name


def test_the_distribution_ships_every_kind_of_part() -> None:
    shipped = tomllib.loads(PROJECT.read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert {f"**/*.{name.rpartition('.')[2]}" for name in STATIC} <= set(shipped)


def test_parts_stay_small() -> None:
    for name, text in STATIC.items():
        assert len(text.splitlines()) <= 300, name
        assert max(map(len, text.splitlines())) <= 100, name


def model_of(annotation: object) -> type[BaseModel] | None:
    """The model of an annotation, or of `Model | None`; None for anything else."""
    if get_origin(annotation) in (Union, UnionType):
        kept = [one for one in get_args(annotation) if one is not type(None)]
        return model_of(kept[0]) if len(kept) == 1 else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def fault_of(model: type[BaseModel], members: list[str]) -> str | None:
    """The first member that is no field, followed through nested models."""
    at: type[BaseModel] | None = model
    for member in members:
        if at is None:
            return None
        if member not in at.model_fields:
            return f"{at.__name__} has no field {member!r}"
        at = model_of(at.model_fields[member].annotation)
    return None


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_read_only_fields_of_the_contract(name: str) -> None:
    declared = dict(READS.findall(SCRIPTS[name]))
    models = {variable: getattr(v1, model) for variable, model in declared.items()}
    code = COMMENT.sub("", SCRIPTS[name])
    used: set[str] = set()
    faults: list[str] = []
    for root, chain in CHAIN.findall(code):
        members = chain.replace("?", "").split(".")[1:]
        if root in models:
            used.add(root)
            faults += [fault] if (fault := fault_of(models[root], members)) else []
        elif any("_" in member for member in members):
            faults.append(f"{root}{chain}: `{root}` is not declared with @reads")
    assert not faults
    assert used == set(declared), "declared, but never read"


def test_a_field_that_is_not_in_the_contract_is_noticed() -> None:
    assert fault_of(v1.Run, ["resolved", "weigher", "name"]) is None
    assert fault_of(v1.TaskSummary, ["statistics", "num_groups"]) is None
    assert fault_of(v1.HistoryPoint, ["lane_shares", "uniform"]) is None
    assert fault_of(v1.Run, ["resolved", "weigher", "title"]) == "ResolvedPart has no field 'title'"
    assert fault_of(v1.TaskSummary, ["statistics", "groups"]) is not None


def test_the_orders_on_offer_are_those_of_the_api() -> None:
    orders = re.search(r"const ORDERS = \[(.*?)\n\];", SCRIPTS["tasks.js"], re.DOTALL)
    assert orders is not None
    assert set(re.findall(r"\[\"(\w+)\",", orders[1])) == set(get_args(TaskOrder))


async def filled(sampler: httpx.AsyncBaseTransport) -> v1.Run:
    """A run with one version, one prompt batch reported."""
    async with AsyncEtudeClient("http://sampler", api_key=KEY, transport=sampler) as client:
        dataset = await client.create_dataset(v1.DatasetCreate(name="shown"))
        await client.import_tasks(dataset.id, [lines([task(number) for number in range(6)])])
        create = v1.RunCreate(
            name="shown",
            dataset_id=dataset.id,
            group_size=4,
            mode=v1.RunMode.CURRICULUM_ONLY,
            limits=v1.RunLimits(training_batch_groups=4, max_group_bytes=1 << 20),
        )
        run = await client.create_run(create)
        batch = await client.lease_prompt_batch(
            run.id, v1.PromptBatchRequest(num_tasks=4, worker="w")
        )
        assert batch.lease is not None
        await client.report_groups(batch.lease.id, report_of(batch))
        await client.announce_policy_version(run.id, v1.PolicyVersionRequest(policy_version=1))
    return run


async def test_every_call_of_the_page_answers_what_the_page_expects(
    sampler: httpx.AsyncBaseTransport, http: httpx.AsyncClient
) -> None:
    run = await filled(sampler)
    assert (await http.get("/")).status_code == 200, "the page itself asks for no key"
    refused = await http.get("/v1/runs")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    http.headers["Authorization"] = f"Bearer {KEY}"

    async def read(path: str, model: type[BaseModel], **query: str | int) -> httpx.Response:
        answer = await http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        model.model_validate_json(answer.content)
        assert set(model.model_fields) <= set(answer.json()), path
        return answer

    runs = (await read("/v1/runs", v1.RunPage, limit=100)).json()
    assert [one["name"] for one in runs["items"]] == ["shown"]
    await read(f"/v1/runs/{run.id}", v1.Run)
    view = (await read(f"/v1/runs/{run.id}/curriculum", v1.CurriculumView)).json()
    assert {one["arm"] for one in view["arms"]} == {"control", "curriculum"}
    series = (await read(f"/v1/runs/{run.id}/series", v1.Series, points=240)).json()
    assert series["versions"] == [1]
    await read(f"/v1/runs/{run.id}/activity", v1.Activity)
    await read(f"/v1/runs/{run.id}/distributions", v1.Distributions)
    for order in get_args(TaskOrder):
        tasks = (await read(f"/v1/runs/{run.id}/tasks", v1.TaskPage, limit=25, order=order)).json()
        assert len(tasks["items"]) == (0 if order == "improved" else 6), order
    tasks = (await read(f"/v1/runs/{run.id}/tasks", v1.TaskPage, q="#0")).json()
    one = (await read(f"/v1/runs/{run.id}/tasks/{tasks['items'][0]['id']}", v1.TaskView)).json()
    assert one["weights"]
    assert all(term["explanation"] for term in one["weights"])


def test_the_page_calls_nothing_but_these() -> None:
    code = "\n".join(COMMENT.sub("", text) for text in SCRIPTS.values())
    asked = set(re.findall(r"[`\"]v1/(\w+)", code)) | set(re.findall(r"ath\}/(\w+)[`/]", code))
    views = {"curriculum", "series", "activity", "distributions"}
    assert asked == {"runs", "tasks", "trajectories"} | views
    assert len(re.findall(r"\bfetch\(", code)) == 1
    assert "method:" not in code, "the page only looks"
