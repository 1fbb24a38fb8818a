"""The same loop on real vLLM (CPU): generation, weights from the trainer by gloo, parity."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from etude_sampler.embedded import RunningServer
from support.loop import Loop, create_run, make_tiny, smaller, start_sampler, start_services
from support.tree import ROOT

pytestmark = pytest.mark.vllm
STEPS = 5
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(420)
def test_the_loop_runs_on_vllm(database_url: str, valkey: RunningServer, tmp_path: Path) -> None:
    addresses = {"ETUDE_DATABASE_URL": database_url, "ETUDE_REDIS_URL": valkey.url}
    port, rollout_port, trainer_port = free_port(), free_port(), free_port()
    plan = smaller(make_tiny(tmp_path), group_size=8, batch_groups=8)
    sampler = start_sampler("sampler", port=port, servers=addresses, folder=tmp_path)
    url = f"http://127.0.0.1:{port}"
    run = create_run(url, plan)
    dsn = database_url.replace("postgresql+asyncpg", "postgresql")
    loop = Loop(plan, run, url, dsn, {"sampler": sampler})
    engine = {
        "ETUDE_ENGINE": "vllm",
        "ETUDE_VLLM_PYTHON": str(PYTHON),
        "ETUDE_VLLM_PORT": str(free_port()),
        "ETUDE_VLLM_MAX_MODEL_LEN": "1024",
        "ETUDE_WEIGHT_CHANNEL": "gloo",
        "ETUDE_TRAINER_URL": f"http://127.0.0.1:{trainer_port}",
        "ETUDE_TRANSFER_KEY": "shared",
    }
    sending = {
        "ETUDE_WEIGHT_CHANNEL": "gloo",
        "ETUDE_TRAINER_PORT": str(trainer_port),
        "ETUDE_TRANSFER_KEY": "shared",
    }
    try:
        start_services(
            loop,
            tmp_path,
            rollout_url=url,
            engine=engine,
            trainer_settings=sending,
            rollout_port=rollout_port,
        )
        loop.reach(STEPS, timeout_s=360)
        status = httpx.get(f"http://127.0.0.1:{rollout_port}/v1/status", timeout=5).json()
        assert status["engine"].startswith("vllm")
        assert status["policy_version"] >= 1
        assert status["parity_gap"] < 1e-4
        metrics = httpx.get(f"http://127.0.0.1:{rollout_port}/metrics", timeout=5).text
        assert 'etude_rollout_weights_loads_total{channel="gloo"}' in metrics
        assert 'channel="disk"' not in metrics
        assert all(child.num_restarts == 0 for child in loop.children.values())
    finally:
        loop.stop()
