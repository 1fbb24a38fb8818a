"""schemathesis against a running sampler: no server error, nothing outside the committed OpenAPI.

Positive and negative requests for every operation, seeded, with ids of a real run, its live leases
and its tasks in the paths, so that calls get past "no such run".
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from etude_client import AsyncEtudeClient
from etude_proto.v1 import DatasetCreate, PromptBatchRequest, RunCreate, TrainingBatchRequest
from etude_sampler.embedded import RunningServer
from support.contract import OPENAPI, ROOT, openapi, operations
from support.sampler_app_replica import Replica, replica

from .flow import GROUP_SIZE, LIMITS, cargo_for, report_for, tasks

KEY = "schemathesis-key"
SEED = 20261121
EXAMPLES = 2
HARD = {
    *("ack_training_batch", "extend_training_batch", "release_training_batch"),
    *("extend_lease", "release_lease", "report_groups", "announce_policy_version"),
    *("get_key", "revoke_key", "get_checkpoint", "delete_checkpoint", "restore_run"),
    *("update_run", "delete_run", "delete_dataset", "post_predictions", "get_trajectories"),
}
"""Calls that may find no request that succeeds: they need a fence, a revision or an id that other
calls take away. `test_bijection` makes them succeed."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@dataclass(frozen=True, slots=True)
class World:
    """A sampler in a process of its own, and what is in it."""

    sampler: Replica
    log: Path
    ids: dict[str, str]
    fences: dict[str, int]


@pytest.fixture
async def world(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> AsyncIterator[World]:
    """A run with live leases of both kinds."""
    log = short_folder / "log"
    keys = {"ETUDE_API_KEYS": KEY}
    async with replica(database_url, valkey.url, log=log, environment=keys) as sampler:
        yield World(sampler, log, *await _filled(sampler.url))


async def _filled(url: str) -> tuple[dict[str, str], dict[str, int]]:
    """Ids for paths, and fences by lease id."""
    async with AsyncEtudeClient(url, api_key=KEY) as client:
        dataset = await client.create_dataset(DatasetCreate(name="sums"))
        await client.import_tasks(dataset.id, tasks(40))
        create = RunCreate(name="run", dataset_id=dataset.id, group_size=GROUP_SIZE, limits=LIMITS)
        run = await client.create_run(create)
        batch = await client.lease_prompt_batch(
            run.id, PromptBatchRequest(num_tasks=2, worker="w", ttl_s=600)
        )
        assert batch.lease is not None
        report = report_for(batch.lease, batch.items[0].task.id, 0)
        await client.report_groups(batch.lease.id, cargo_for(report, 0))
        frame = await client.lease_training_batch(
            run.id, TrainingBatchRequest(trainer="t", num_groups=1, ttl_s=600)
        )
        assert frame.manifest.lease is not None
        spare = await client.create_run(create)
        other = await client.create_dataset(DatasetCreate(name="spare"))
        ids = {
            "spare_run": spare.id,
            "spare_dataset": other.id,
            "run_id": run.id,
            "dataset_id": dataset.id,
            "task_id": batch.items[1].task.id,
            "lease_id": batch.lease.id,
            "training_id": frame.manifest.lease.id,
        }
        leases = (batch.lease, frame.manifest.lease)
        return ids, {lease.id: lease.fence for lease in leases}


def configuration(ids: dict[str, str]) -> str:
    """`schemathesis.toml`: real ids in every path; what deletes gets a run to itself."""
    fixed = {name: ids[name] for name in ("run_id", "dataset_id", "task_id")}
    text = "[parameters]\n" + "".join(f'"path.{k}" = {json.dumps(v)}\n' for k, v in fixed.items())
    for operation, name, value in (
        *((one, "lease_id", ids["lease_id"]) for one in _of("/v1/leases/")),
        *((one, "lease_id", ids["training_id"]) for one in _of("/v1/training-batches/")),
        ("delete_run", "run_id", ids["spare_run"]),
        ("delete_dataset", "dataset_id", ids["spare_dataset"]),
    ):
        text += f'[[operations]]\ninclude-operation-id = "{operation}"\n'
        text += f'parameters = {{ "path.{name}" = {json.dumps(value)} }}\n'
    return text


def _of(prefix: str) -> list[str]:
    """Operations whose path begins so."""
    found = operations(openapi("sampler")).items()
    return [name for name, (_, path) in found if path.startswith(prefix)]


@pytest.mark.slow
async def test_nothing_outside_the_contract(world: World, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(configuration(world.ids))
    done = await asyncio.to_thread(_schemathesis, world, tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "Traceback" not in world.log.read_text()
    answered = await _answered(world.sampler.url)
    called = {name for name, _ in answered}
    assert called >= set(operations(openapi("sampler")))
    good = {name for name, status in answered if status.startswith("2")}
    assert called - good - {"other"} <= HARD


async def _answered(url: str) -> set[tuple[str, str]]:
    """Operation and status of everything that the sampler answered."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"})).text
    found = re.findall(r'^etude_http_requests_total{operation="(\w+)",status="(\d+)"}', text, re.M)
    return {(name, status) for name, status in found}


def _schemathesis(world: World, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(OPENAPI / "sampler.v1.json")),
        *("-H", f"Authorization: Bearer {KEY}"),
        *("--url", world.sampler.url, "--checks", ",".join(CHECKS), "--seed", str(SEED)),
        *("--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing"),
        *("--generation-database", "none", "--no-color", "--continue-on-failure"),
        *("--request-timeout", "40", "--suppress-health-check", "all", "--no-shrink"),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETUDE_")}
    hooks = {"PYTHONPATH": str(ROOT / "tests"), "SCHEMATHESIS_HOOKS": "support.schemathesis_hooks"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**clean, **hooks, "FENCES": json.dumps(world.fences)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
