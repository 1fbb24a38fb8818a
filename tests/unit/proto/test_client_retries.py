"""Retries of both clients against a server that drops, cuts, hangs and refuses."""

from __future__ import annotations

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from etude_client import AsyncEtudeClient, EtudeClient, Unreachable
from etude_client.errors import ApiError, Busy, DependencyUnavailable, InternalError, Rebuilding
from etude_proto.v1 import DatasetCreate, ProblemCode, PromptBatchRequest
from support.contract import example
from support.scripted_server import Cut, Drop, Hold, Reply, ScriptedServer, Step, problem

DATASETS = "/v1/datasets"
CREATE = DatasetCreate(name="bfcl-simple")
DATASET = Reply(201, example("Dataset").encode())
REBUILDING = problem(ProblemCode.REBUILDING, 503, retryable=True, retry_after="0")
IN_PROGRESS = problem(ProblemCode.IDEMPOTENCY_IN_PROGRESS, 409, retryable=True)

FAILURES = {
    "dropped": Drop(),
    "cut in the reply": Cut(),
    "silent": Hold(),
    "503 with Retry-After": REBUILDING,
    "429": problem(ProblemCode.RATE_LIMITED, 429, retryable=True, retry_after="0"),
    "502 of a proxy": Reply(502, b"<html>Bad Gateway</html>", content_type="text/html"),
    "504 of a proxy": Reply(504, b"", content_type="text/plain"),
    "409 in progress": IN_PROGRESS,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_retries_with_the_same_key_and_body(
    server: ScriptedServer, client: AsyncEtudeClient, failure: Step
) -> None:
    server.script(DATASETS, failure, failure, DATASET)
    assert (await client.create_dataset(CREATE)).name == "bfcl-simple"
    assert len(server.seen) == 3
    assert len(set(server.keys())) == 1
    assert server.seen[0].key
    assert len({request.body for request in server.seen}) == 1


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_sync_retries_with_the_same_key(
    server: ScriptedServer, sync_client: EtudeClient, failure: Step
) -> None:
    server.script(DATASETS, failure, DATASET)
    assert sync_client.create_dataset(CREATE).name == "bfcl-simple"
    assert len(server.seen) == 2
    assert len(set(server.keys())) == 1


async def test_calls_have_keys_of_their_own(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(DATASETS, DATASET)
    await client.create_dataset(CREATE)
    await client.create_dataset(CREATE)
    assert len(set(server.keys())) == 2


async def test_a_given_key_is_used(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(DATASETS, Drop(), DATASET)
    await client.create_dataset(CREATE, idempotency_key="import-of-monday")
    assert server.keys() == ["import-of-monday"] * 2


async def test_reads_carry_no_key(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(DATASETS, Drop(), Reply(200, example("DatasetPage").encode()))
    await client.list_datasets()
    assert server.keys() == [None, None]


REFUSALS = [
    (code, status)
    for code, status in {
        ProblemCode.BAD_REQUEST: 400,
        ProblemCode.UNAUTHORIZED: 401,
        ProblemCode.FORBIDDEN: 403,
        ProblemCode.RUN_NOT_FOUND: 404,
        ProblemCode.LEASE_SUPERSEDED: 409,
        ProblemCode.VERSION_CONFLICT: 409,
        ProblemCode.REVISION_MISMATCH: 412,
        ProblemCode.BODY_TOO_LARGE: 413,
        ProblemCode.PAYLOAD_INVALID: 422,
        ProblemCode.INTERNAL: 500,
    }.items()
]


@pytest.mark.parametrize(("code", "status"), REFUSALS)
async def test_other_refusals_are_final(
    server: ScriptedServer, client: AsyncEtudeClient, code: ProblemCode, status: int
) -> None:
    server.script(DATASETS, problem(code, status, retry_after="0"))
    with pytest.raises(ApiError) as caught:
        await client.create_dataset(CREATE)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert len(server.seen) == 1


async def test_retry_after_is_respected(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    step = problem(ProblemCode.REBUILDING, 503, retry_after="1")
    server.script(DATASETS, step, DATASET)
    begun = time.monotonic()
    await client.create_dataset(CREATE)
    assert 1.0 <= time.monotonic() - begun < 3.0


async def test_retry_after_may_be_a_date(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    step = problem(
        ProblemCode.REBUILDING, 503, retry_after=formatdate(time.time() + 1.5, usegmt=True)
    )
    server.script(DATASETS, step, DATASET)
    begun = time.monotonic()
    await client.create_dataset(CREATE)
    assert 0.4 <= time.monotonic() - begun < 4.0


async def test_attempts_are_bounded(server: ScriptedServer) -> None:
    server.script(DATASETS, REBUILDING)
    async with AsyncEtudeClient(server.url, max_attempts=3) as client:
        with pytest.raises(Rebuilding) as caught:
            await client.create_dataset(CREATE)
    assert isinstance(caught.value, Busy)
    assert len(server.seen) == 3


async def test_the_deadline_bounds_the_whole_call(server: ScriptedServer) -> None:
    server.script(DATASETS, Hold())
    begun = time.monotonic()
    async with AsyncEtudeClient(server.url, timeout_s=0.3, deadline_s=0.8) as client:
        with pytest.raises(Unreachable):
            await client.create_dataset(CREATE)
    assert time.monotonic() - begun < 1.5
    assert len(server.seen) >= 2


async def test_advice_beyond_the_deadline_is_not_waited_for(server: ScriptedServer) -> None:
    server.script(DATASETS, problem(ProblemCode.REBUILDING, 503, retry_after="60"))
    async with AsyncEtudeClient(server.url, deadline_s=2.0) as client:
        with pytest.raises(Rebuilding):
            await client.create_dataset(CREATE)


async def test_a_call_in_progress_is_waited_for_as_long_as_it_may_take(
    server: ScriptedServer,
) -> None:
    steps = [IN_PROGRESS] * 4
    server.script(
        "/v1/runs/run_1/prompt-batches", *steps, Reply(200, example("PromptBatch").encode())
    )
    async with AsyncEtudeClient(server.url, timeout_s=0.2, max_attempts=2) as client:
        request = PromptBatchRequest(num_tasks=1, worker="w", wait_s=10.0)
        batch = await client.lease_prompt_batch("run_1", request)
    assert batch.items
    assert len(server.seen) == 5


async def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with AsyncEtudeClient(url, max_attempts=2) as client:
            with pytest.raises(Unreachable, match=r"GET /v1/runs/run_1: ConnectError.*attempt 2"):
                await client.get_run("run_1")
        with EtudeClient(url, max_attempts=2) as sync_client, pytest.raises(ConnectionError):
            sync_client.get_run("run_1")


async def test_a_proxys_page_becomes_a_problem(server: ScriptedServer) -> None:
    page = Reply(503, b"<html>no backend</html>", content_type="text/html")
    server.script(DATASETS, page)
    async with AsyncEtudeClient(server.url, max_attempts=1) as client:
        with pytest.raises(DependencyUnavailable, match="no backend"):
            await client.create_dataset(CREATE)


async def test_an_unknown_code_keeps_its_status(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    body = problem(ProblemCode.INTERNAL, 500).body.replace(b'"internal"', b'"brand_new"')
    server.script(DATASETS, Reply(500, body))
    with pytest.raises(InternalError, match="brand_new"):
        await client.create_dataset(CREATE)


async def test_a_cancelled_call_is_not_sent_again(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(DATASETS, REBUILDING, Hold())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await client.create_dataset(CREATE)
    assert len(server.seen) <= 2
