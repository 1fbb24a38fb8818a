"""What the clients make of answers: models, frames, problems, probes, pages, connections."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from etude_client import AnswerInvalid, AsyncEtudeClient, EtudeClient, PayloadInvalid, TrainingFrame
from etude_client.errors import BY_CODE, ApiError
from etude_proto.cargo import FRAME_MEDIA_TYPE, SAFETENSORS_MEDIA_TYPE, pack_frame
from etude_proto.v1 import (
    DatasetCreate,
    ProblemCode,
    PromptBatchRequest,
    Report,
    RunUpdate,
    TrainingBatch,
    TrainingBatchRequest,
)
from support.contract import example
from support.scripted_server import Hold, Reply, ScriptedServer, problem

RUN = "/v1/runs/run_1"
BATCHES = f"{RUN}/training-batches"
BODIES = [b"first group", b"", b"third"]


def frame(bodies: list[bytes]) -> bytes:
    """A training batch whose manifest fits the bodies."""
    manifest = json.loads(example("TrainingBatch"))
    ref = manifest["groups"][0]
    offset, refs = 0, []
    for body in bodies:
        digest = hashlib.sha256(body).hexdigest()
        refs.append({**ref, "offset": offset, "num_bytes": len(body), "sha256": digest})
        offset += len(body)
    manifest["groups"] = refs
    return pack_frame(json.dumps(manifest).encode(), bodies)


async def test_fields_of_a_later_release_are_passed_over(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    """Also below, in what is a request elsewhere: a run shows its config and its limits."""
    run = json.loads(example("Run"))
    run["curriculum"]["later"] = {"name": "part"}
    run["limits"]["later"] = 3
    server.script(RUN, Reply(200, json.dumps(run).encode()))
    found = await client.get_run("run_1")
    assert found.curriculum.preset == run["curriculum"]["preset"]
    assert not hasattr(found.limits, "later")


async def test_a_training_batch_is_split(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(BATCHES, Reply(200, frame(BODIES), content_type=FRAME_MEDIA_TYPE))
    batch = await client.lease_training_batch("run_1", TrainingBatchRequest(trainer="t"))
    assert isinstance(batch, TrainingFrame)
    assert batch.bodies == BODIES
    assert isinstance(batch.manifest, TrainingBatch)
    assert FRAME_MEDIA_TYPE in server.seen[0].headers["accept"]


@pytest.mark.parametrize(
    "body", [frame(BODIES)[:-1], frame(BODIES)[:-1] + b"X", b"", b"{}", b"\xff" * 64]
)
def test_a_damaged_training_batch_is_refused(
    server: ScriptedServer, sync_client: EtudeClient, body: bytes
) -> None:
    server.script(BATCHES, Reply(200, body, content_type=FRAME_MEDIA_TYPE))
    with pytest.raises(AnswerInvalid):
        sync_client.lease_training_batch("run_1", TrainingBatchRequest(trainer="t"))


@pytest.mark.parametrize("reply", [Reply(200, b"{}"), Reply(200, b"<html>"), Reply(302, b"")])
async def test_answers_outside_the_contract_are_refused(
    server: ScriptedServer, client: AsyncEtudeClient, reply: Reply
) -> None:
    server.script(RUN, reply)
    with pytest.raises(AnswerInvalid):
        await client.get_run("run_1")
    assert len(server.seen) == 1


async def test_newer_fields_of_answers_are_ignored(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    newer = {**json.loads(example("Run")), "brand_new": {"x": 1}}
    server.script(RUN, Reply(200, json.dumps(newer).encode()))
    assert (await client.get_run("run_1")).name == "demo"


@pytest.mark.parametrize("code", ProblemCode)
async def test_every_code_has_its_exception(
    server: ScriptedServer, client: AsyncEtudeClient, code: ProblemCode
) -> None:
    server.script(RUN, problem(code, 422))
    kind = BY_CODE[code]
    with pytest.raises(kind) as caught:
        await client.get_run("run_1")
    assert type(caught.value) is kind
    assert f"scripted {code}" in str(caught.value)


def test_every_code_has_a_class_of_its_own() -> None:
    assert set(BY_CODE) == set(ProblemCode)
    assert len(set(BY_CODE.values())) == len(BY_CODE)


async def test_exceptions_name_the_fields_and_pickle(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    refusal = Reply(422, example("Problem").encode(), content_type="application/problem+json")
    server.script(RUN, refusal)
    with pytest.raises(PayloadInvalid, match="/group_size: Input should be") as caught:
        await client.get_run("run_1")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, ApiError)
    assert (copy.problem, copy.status) == (caught.value.problem, 422)


async def test_probes_take_ill_health_as_an_answer(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    ill = {**json.loads(example("Health")), "status": "unavailable"}
    server.script("/readyz", Reply(503, json.dumps(ill).encode()))
    assert (await client.readyz()).status == "unavailable"
    server.script("/livez", problem(ProblemCode.REBUILDING, 503, retry_after="0"))
    with pytest.raises(ApiError):
        await client.livez()
    assert len(server.seen) == 2


async def test_pages_are_walked(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    first = {**json.loads(example("DatasetPage")), "next_cursor": "c1"}
    pages = [json.dumps(first).encode(), example("DatasetPage").encode()]
    server.script("/v1/datasets", *(Reply(200, page) for page in pages))
    assert len([dataset async for dataset in client.iter_datasets()]) == 2
    assert [request.query for request in server.seen] == [
        {"limit": "1000"},
        {"limit": "1000", "cursor": "c1"},
    ]


def test_pages_are_walked_by_the_sync_client(
    server: ScriptedServer, sync_client: EtudeClient
) -> None:
    first = {**json.loads(example("TaskPage")), "next_cursor": "c1"}
    pages = [json.dumps(first).encode(), example("TaskPage").encode()]
    server.script(f"{RUN}/tasks", *(Reply(200, page) for page in pages))
    assert len(list(sync_client.iter_tasks("run_1", order="hardest", subtask="tool_name"))) == 2
    assert server.seen[1].query == {
        "limit": "1000",
        "cursor": "c1",
        "order": "hardest",
        "subtask": "tool_name",
    }


async def test_headers_of_the_contract(server: ScriptedServer) -> None:
    server.script(RUN, Reply(200, example("Run").encode()))
    async with AsyncEtudeClient(server.url + "/", api_key="etk_secret") as client:
        await client.update_run("run_1", RunUpdate(name="again"), revision=3)
    (seen,) = server.seen
    assert seen.method == "PATCH"
    assert seen.headers["if-match"] == '"3"'
    assert seen.headers["authorization"] == "Bearer etk_secret"
    assert seen.headers["content-type"] == "application/json"
    assert json.loads(seen.body) == {"name": "again"}


async def test_identifiers_cannot_leave_their_place(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script("/v1/runs/a%2F..%2Fb%3Fx", Reply(200, example("Run").encode()))
    assert (await client.get_run("a/../b?x")).name == "demo"


async def test_reports_are_json_or_cargo(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    path = "/v1/leases/lease_1/groups"
    server.script(path, Reply(200, example("Receipt").encode()))
    report = Report.model_validate_json(example("Report"))
    await client.report_groups("lease_1", report)
    await client.report_groups("lease_1", b"cargo")
    as_json, as_cargo = server.seen
    assert Report.model_validate_json(as_json.body) == report
    assert as_json.headers["content-type"] == "application/json"
    assert (as_cargo.headers["content-type"], as_cargo.body) == (SAFETENSORS_MEDIA_TYPE, b"cargo")


async def test_compression_covers_large_json_only(server: ScriptedServer) -> None:
    path = "/v1/leases/lease_1/groups"
    server.script(path, Reply(200, example("Receipt").encode()))
    report = Report.model_validate_json(example("Report"))
    async with AsyncEtudeClient(server.url, compress=True) as client:
        await client.report_groups("lease_1", report)
        await client.report_groups("lease_1", b"x" * 5000)
    as_json, as_cargo = server.seen
    assert as_json.headers["content-encoding"] == "gzip"
    assert len(as_json.body) < len(as_json.text())
    assert Report.model_validate_json(as_json.text()) == report
    assert "content-encoding" not in as_cargo.headers


async def test_connections_are_kept(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(RUN, Reply(200, example("Run").encode()))
    for _ in range(5):
        await client.get_run("run_1")
    assert len({request.connection for request in server.seen}) == 1


async def test_a_long_poll_may_outlast_the_time_out(server: ScriptedServer) -> None:
    server.script(f"{RUN}/prompt-batches", Hold())
    async with AsyncEtudeClient(server.url, timeout_s=0.1, max_attempts=1) as client:
        request = PromptBatchRequest(num_tasks=1, worker="w", wait_s=0.4)
        with pytest.raises(ConnectionError, match="ReadTimeout"):
            await client.lease_prompt_batch("run_1", request)
        create = DatasetCreate(name="x")
        server.script("/v1/datasets", Reply(200, example("Dataset").encode()))
        assert (await client.create_dataset(create)).name == "bfcl-simple"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8321", "ftp://host", "http://"])
def test_urls_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        EtudeClient(url)


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"deadline_s": -1.0}, {"max_attempts": 0}])
def test_limits_are_checked(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        EtudeClient("http://127.0.0.1:1", **limits)  # type: ignore[arg-type]
