"""The trainer's API over a board that tells a story."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from etude_trainer.api import problems
from etude_trainer.api.metrics import STEP_GAUGES
from etude_trainer.api.routes import make_router
from etude_trainer.api.weights import make_weights_router
from etude_trainer.app import create_app
from etude_trainer.settings import Settings
from etude_trainer.status import Stage, StatusBoard
from etude_trainer.weights.sending import make_sender


def client_of(board: StatusBoard) -> TestClient:
    app = FastAPI()
    app.include_router(make_router(board))
    return TestClient(app)


def test_starting() -> None:
    client = client_of(StatusBoard())
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.get("/v1/status").json()["stage"] == "starting"


def test_training() -> None:
    board = StatusBoard()
    board.update(run_id="run_a", policy_version=6, reaches_sampler=True)
    seconds: dict[str, float] = {}
    with board.during(Stage.TRAIN, seconds):
        board.update(num_micro_batches=4, num_micro_batches_done=1)
        client = client_of(board)
        assert client.get("/readyz").status_code == 200
        status = client.get("/v1/status").json()
    assert (status["stage"], status["num_micro_batches_done"]) == ("train", 1)
    metrics = dict.fromkeys(STEP_GAUGES, 0.5)
    board.finish_step(7, 1, metrics, seconds)
    status = client.get("/v1/status").json()
    assert status["policy_version"] == 7
    assert status["num_micro_batches"] == 0
    assert status["last_step"]["kl_rollout"] == 0.5
    assert status["last_step"]["seconds"]["train"] >= 0
    text = client.get("/metrics").text
    assert "etude_trainer_policy_version 7.0" in text
    assert "etude_trainer_steps_total 1.0" in text
    for name, _ in STEP_GAUGES.values():
        assert f"\n{name} 0.5" in text


def test_a_sampler_that_is_away_makes_it_unready_not_dead() -> None:
    board = StatusBoard()
    board.update(policy_version=1, reaches_sampler=False, detail="connection refused")
    board.enter(Stage.FETCH, "connection refused")
    client = client_of(board)
    assert client.get("/livez").status_code == 200
    health = client.get("/readyz")
    assert health.status_code == 503
    assert "connection refused" in health.text


def test_failed() -> None:
    board = StatusBoard()
    board.enter(Stage.FAILED, "no weights")
    health = client_of(board).get("/livez")
    assert health.status_code == 503
    assert health.json()["checks"][0]["detail"] == "no weights"


def test_the_app_describes_itself_without_a_service() -> None:
    operations = {
        operation["operationId"]
        for path in create_app().openapi()["paths"].values()
        for operation in path.values()
    }
    assert operations == {"livez", "readyz", "metrics", "get_status", "open_transfer"}


def test_transfers_are_asked_for_with_the_key_and_refused_as_problems(tmp_path: Path) -> None:
    settings = Settings(weight_channel="gloo", transfer_timeout_s=1.0)
    sender = make_sender(settings)
    app = FastAPI()
    problems.install(app)
    app.include_router(make_weights_router(sender, key="etude_key"))
    client = TestClient(app)
    path = "/v1/weights/v000001-lease_a/transfers"
    wanted = {"backend": "gloo", "world_size": 1}
    key = {"Authorization": "Bearer etude_key"}
    assert client.post(path, json=wanted).status_code == 401
    for wrong in ("Bearer etude_kez", "etude_key"):
        answer = client.post(path, json=wanted, headers={"Authorization": wrong})
        assert answer.status_code == 401
    early = client.post(path, json=wanted, headers=key).json()
    assert (early["status"], early["code"]) == (503, "dependency_unavailable")
    bad = client.post(path, json={"backend": "pigeon"}, headers=key).json()
    assert (bad["status"], bad["code"]) == (422, "payload_invalid")
    assert {fault["pointer"] for fault in bad["errors"]} == {"/backend", "/world_size"}
    assert sender is not None
    sender.open(tmp_path, torch.device("cpu"))
    assert client.post(path, json=wanted, headers=key).status_code == 404
    sender.close()


def test_weights_are_not_offered_to_other_machines_without_a_key() -> None:
    with pytest.raises(ValidationError, match="transfer_key"):
        Settings(weight_channel="gloo", transfer_host="0.0.0.0")
    Settings(weight_channel="gloo", transfer_host="0.0.0.0", transfer_key=SecretStr("k"))
    Settings(transfer_host="0.0.0.0")  # the disk's


def test_without_a_sender_there_is_nothing_to_ask_for() -> None:
    assert make_sender(Settings()) is None
    client = TestClient(create_app())
    wanted = {"backend": "gloo", "world_size": 1}
    answer = client.post("/v1/weights/v000001-lease_a/transfers", json=wanted)
    assert answer.status_code == 404
    assert "ETUDE_WEIGHT_CHANNEL" in answer.json()["detail"]
