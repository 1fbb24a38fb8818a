"""The small API over a real engine, without a sampler: health, status, prompts, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from etude_proto.v1 import Health, Problem
from etude_rollout.api.limits import MAX_BODY_BYTES
from etude_rollout.api.models import RolloutAnswer
from etude_rollout.app import create_app
from etude_rollout.models.tiny_tasks import draw_tasks
from etude_rollout.service import EXIT_FAILED, RolloutService
from etude_rollout.settings import RolloutSettings
from etude_rollout.status import Phase, RolloutStatus
from support.waiting import wait_until

NO_SAMPLER = "http://127.0.0.1:9"
TASK = next(t.task for t in draw_tasks(3) if len(t.task.subtasks) == 4)
BODY = TASK.model_dump(mode="json", include={"messages", "tools", "reference"})


class App:
    """The app in process, its lifespan running."""

    def __init__(self, service: RolloutService, http: httpx.AsyncClient) -> None:
        self.service = service
        self.http = http

    async def problem(self, method: str, path: str, *, status: int, **request: object) -> Problem:
        answer = await self.http.request(method, path, **request)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return Problem.model_validate_json(answer.content)


@asynccontextmanager
async def running(policy_dir: Path, **changes: object) -> AsyncIterator[App]:
    values = {
        "sampler_url": NO_SAMPLER,
        "run": "r",
        "worker": "w",
        "model_path": policy_dir,
        "explain_format": False,
        "max_new_tokens": 12,
        "engine_threads": 1,
    }
    app = create_app(RolloutSettings.model_validate(values | changes))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://rollout") as http:
            yield App(app.state.service, http)


@asynccontextmanager
async def ready(policy_dir: Path, **changes: object) -> AsyncIterator[App]:
    """The app, its engine loaded; there is no sampler, so it waits for its run."""
    async with running(policy_dir, **changes) as app:

        async def is_waiting() -> bool:
            return app.service.status.phase is Phase.WAITING_FOR_RUN

        await wait_until(is_waiting, what="the engine is loaded", timeout_s=60)
        yield app


async def test_health_is_told_from_the_first_moment(policy_dir: Path) -> None:
    async with running(policy_dir) as app:
        assert (await app.http.get("/livez")).status_code == 200
        answer = await app.http.get("/readyz")
        assert answer.status_code == 503
        checks = {check.name: check.ok for check in Health.model_validate_json(answer.text).checks}
        assert checks == {"worker": True, "engine": False, "run": False}
        problem = await app.problem("POST", "/v1/rollouts", status=503, json=BODY)
        assert problem.retryable


async def test_a_prompt_can_be_tried_without_a_sampler(policy_dir: Path) -> None:
    async with ready(policy_dir) as app:
        given = await app.http.post("/v1/rollouts", json=BODY | {"num_rollouts": 3, "seed": 5})
        again = await app.http.post("/v1/rollouts", json=BODY | {"num_rollouts": 3, "seed": 5})
        assert given.status_code == 200
        assert given.json() == again.json()
        answer = RolloutAnswer.model_validate_json(given.content)
        assert len(answer.rollouts) == 3
        assert answer.policy_version == 0
        assert TASK.messages[0].content in answer.prompt
        for rollout in answer.rollouts:
            assert rollout.score is not None
            assert set(rollout.score.components) == set(TASK.subtasks)
            assert 1 <= rollout.num_tokens <= 12
        bare = await app.http.post("/v1/rollouts", json={"messages": BODY["messages"]})
        assert bare.json()["rollouts"][0]["score"] is None


async def test_the_prefill_is_part_of_what_is_scored(policy_dir: Path) -> None:
    async with ready(policy_dir, assistant_prefill="<think>") as app:
        answer = await app.http.post("/v1/rollouts", json=BODY)
        assert answer.json()["rollouts"][0]["text"].startswith("<think>")
        assert answer.json()["prompt"].endswith("<think>")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"messages": []}, "/messages"),
        ({"surprise": 1}, "/surprise"),
        ({"num_rollouts": 65}, "/num_rollouts"),
        ({"temperature": -1}, "/temperature"),
        ({"temperature": 0, "num_rollouts": 2}, "/num_rollouts"),
        ({"max_new_tokens": 2000}, "/max_new_tokens"),
        ({"reward": {"switches": ["NOPE"]}}, "/reward"),
        ({"reference": {"kind": "calls", "calls": []}}, "/reference/calls/calls"),
        ({"reference": {"kind": "toolrl", "text": "<tool_call>\n{\n</tool_call>"}}, "/reference"),
        ({"messages": [{"role": "king", "content": "x"}]}, "/messages/0/role"),
    ],
)
async def test_wrong_requests_name_the_field(
    policy_dir: Path, change: dict[str, object], pointer: str
) -> None:
    async with ready(policy_dir) as app:
        problem = await app.problem("POST", "/v1/rollouts", status=422, json=BODY | change)
        assert problem.code == "payload_invalid"
        assert pointer in [item.pointer for item in problem.errors]


async def test_other_refusals_are_problems_too(policy_dir: Path) -> None:
    async with ready(policy_dir) as app:
        await app.problem("POST", "/v1/rollouts", status=422, content=b"{")
        await app.problem("GET", "/v1/rollouts", status=405)
        await app.problem("GET", "/nowhere", status=404)
        large = b" " * (MAX_BODY_BYTES + 1)
        await app.problem("POST", "/v1/rollouts", status=413, content=large)

        async def chunks() -> AsyncIterator[bytes]:
            yield large[: MAX_BODY_BYTES // 2]
            yield large[MAX_BODY_BYTES // 2 :]

        await app.problem("POST", "/v1/rollouts", status=413, content=chunks())


async def test_the_key_is_asked_for_if_there_is_one(policy_dir: Path) -> None:
    async with ready(policy_dir, api_key="secret") as app:
        problem = await app.problem("POST", "/v1/rollouts", status=401, json=BODY)
        assert problem.code == "unauthorized"
        wrong = {"authorization": "Bearer secrets"}
        await app.problem("POST", "/v1/rollouts", status=401, json=BODY, headers=wrong)
        right = {"authorization": "Bearer secret"}
        answer = await app.http.post("/v1/rollouts", json=BODY, headers=right)
        assert answer.status_code == 200
        assert (await app.http.get("/v1/status")).status_code == 200


async def test_status_and_metrics(policy_dir: Path) -> None:
    async with ready(policy_dir) as app:
        status = RolloutStatus.model_validate_json((await app.http.get("/v1/status")).content)
        assert status.phase is Phase.WAITING_FOR_RUN
        assert status.engine is not None
        assert status.engine.endswith("/fp32")
        answer = await app.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "etude_rollout_batches_in_flight 0.0" in answer.text


async def test_a_worker_without_a_model_fails_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        await app.service.wait()
        assert app.service.exit_code == EXIT_FAILED
        assert (await app.http.get("/livez")).status_code == 503
        status = RolloutStatus.model_validate_json((await app.http.get("/v1/status")).content)
        assert status.phase is Phase.FAILED
        assert "no model" in (status.last_error or "")


def test_making_the_app_opens_nothing(tmp_path: Path) -> None:
    app = create_app(RolloutSettings(model_path=tmp_path))
    operations = {
        operation["operationId"]
        for path in app.openapi()["paths"].values()
        for operation in path.values()
    }
    assert operations == {"livez", "readyz", "metrics", "get_status", "create_rollouts"}
