"""What a worker does when work takes too long or its engine fails: no task is held for nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from etude_client import AsyncEtudeClient
from etude_rollout.prompting import load_tokenizer
from etude_rollout.service import EXIT_FAILED, EXIT_OK, RolloutService
from support.rollout_parts import publish, shift
from support.rollout_service import GROUPS, Observer, create_run, rolling_out, until
from support.scripted_server import Drop, Reply, ScriptedServer, Seen, scripted_server


def counted(service: RolloutService, name: str, **labels: str) -> float:
    """A metric's value; 0 if it was never touched."""
    return service.metrics.registry.get_sample_value(f"etude_rollout_{name}_total", labels) or 0.0


async def test_what_became_too_stale_to_train_on_is_given_back(
    client: AsyncEtudeClient,
    sampler_url: str,
    policy_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One worker is quick, the other makes completions of 900 tokens; the run allows no staleness,
    and the trainer goes on."""
    monkeypatch.setattr("etude_rollout.worker.LISTEN_S", 0.1)
    observer = Observer(client, await create_run(client, max_staleness=0))
    slow_settings = {"worker": "slow", "max_new_tokens": 900, "batches_in_flight": 1}
    async with (
        rolling_out(policy_dir, sampler_url, tmp_path, **slow_settings) as slow,
        rolling_out(policy_dir, sampler_url, tmp_path, max_new_tokens=4),
    ):
        # A step that happens to come just before a slow batch ends finds nothing to give back.
        for version in range(1, 9):
            out = tmp_path / "weights" / f"v{version}"
            uri = publish(policy_dir, out, version=version, change=shift("proj")).as_uri()
            await until(lambda: slow.status.groups_generating > 0, "the slow one generates")
            await observer.train(version, uri)
            await until(
                lambda v=version: slow.status.policy_version == v,  # type: ignore[misc]
                "it takes the new weights",
                timeout_s=120,
            )
            if counted(slow, "given_back", end="stale") > 0:
                break
        await until(lambda: counted(slow, "leases", end="stale") > 0, "its lease is done with")
    assert slow.exit_code == EXIT_OK
    assert (await observer.counts()).num_leased == 0


class ScriptedVllm:
    """vLLM's routes as far as a worker needs them; every completion is two tokens long."""

    def __init__(self, server: ScriptedServer, policy_dir: Path) -> None:
        self.server = server
        self._tokenizer = load_tokenizer(policy_dir)
        for path, body in {
            "/v1/models": {"data": [{"id": "policy", "max_model_len": 1024}]},
            "/version": {"version": "0.32.0"},
            "/is_paused": {"is_paused": False},
            "/weight_info": {"weight_version": "default"},
            "/init_weight_transfer_engine": {},
            "/health": {},
        }.items():
            server.script(path, Reply(body=json.dumps(body).encode()))
        server.script("/tokenize", self.tokenize)

    def tokenize(self, seen: Seen) -> Reply:
        """As the served model does."""
        text = json.loads(seen.body)["prompt"]
        ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return Reply(body=json.dumps({"tokens": ids}).encode())

    @staticmethod
    def generate(_seen: Seen) -> Reply:
        """One completion."""
        choice = {
            "text": "ab",
            "finish_reason": "stop",
            "token_ids": [5, 6],
            "logprobs": {"content": [{"logprob": -1.0}] * 2},
            "weight_versions": [{"version": "default", "start": 0, "end": 2}],
        }
        return Reply(body=json.dumps({"choices": [choice]}).encode())


@pytest.fixture
def vllm(policy_dir: Path) -> Iterator[ScriptedVllm]:
    with scripted_server() as server:
        yield ScriptedVllm(server, policy_dir)


async def test_an_engine_that_goes_away_costs_no_task(
    client: AsyncEtudeClient,
    sampler_url: str,
    policy_dir: Path,
    tmp_path: Path,
    vllm: ScriptedVllm,
) -> None:
    observer = Observer(client, await create_run(client))
    gone = [Drop()] * 6
    vllm.server.script("/inference/v1/generate", vllm.generate, *gone, vllm.generate)
    remote = {"engine": "vllm", "vllm_url": vllm.server.url}
    async with rolling_out(policy_dir, sampler_url, tmp_path, **remote) as service:
        await until(lambda: counted(service, "given_back", end="no_engine") > 0, "it is missed")
        await observer.until(lambda counts: counts.num_ready_groups >= GROUPS, "it works again")
    assert service.exit_code == EXIT_OK
    assert (await observer.counts()).num_leased == 0
    assert counted(service, "rollouts", finish_reason="error") == 0


async def test_an_engine_of_another_vocabulary_is_not_worked_with(
    client: AsyncEtudeClient,
    sampler_url: str,
    policy_dir: Path,
    tmp_path: Path,
    vllm: ScriptedVllm,
) -> None:
    observer = Observer(client, await create_run(client))
    vllm.server.clear()
    other = ScriptedVllm(vllm.server, policy_dir)
    other.server._steps["/tokenize"] = [Reply(body=b'{"tokens": [1, 2, 3]}')]
    other.server.script("/inference/v1/generate", other.generate)
    remote = {"engine": "vllm", "vllm_url": vllm.server.url}
    async with rolling_out(policy_dir, sampler_url, tmp_path, **remote) as service:
        await asyncio.wait_for(service.wait(), 60)
    assert service.exit_code == EXIT_FAILED
    assert "vocabulary mismatch" in (service.status.last_error or "")
    assert (await observer.counts()).num_groups_drawn == 0
