"""`etude runs show` and `etude runs compare` on a real sampler: arms in words, two forks judged."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from etude_client import EtudeClient
from etude_proto.v1 import (
    CheckpointCreate,
    CurriculumConfig,
    DatasetCreate,
    ForkRequest,
    PolicyVersionRequest,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunMode,
)
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.live_sampler import live_sampler
from support.workload import report_of, task

Scene = tuple[str, EtudeClient]


@pytest.fixture
def scene(database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """A sampler, and a client."""
    with live_sampler(database_url, valkey.url) as url, EtudeClient(url) as client:
        yield url, client


def told(url: str, *words: str) -> str:
    """What a command prints; it ends well."""
    environment = {"ETUDE_SAMPLER_URL": url, "COLUMNS": "220"}
    result = CliRunner().invoke(app, ["runs", *words], env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def play(client: EtudeClient, run: Run, *, versions: range, skill: float) -> None:
    """A batch of 16 a version, rolled out with some skill."""
    for version in versions:
        batch = client.lease_prompt_batch(run.id, PromptBatchRequest(num_tasks=16, worker="w"))
        assert batch.lease is not None
        client.report_groups(batch.lease.id, report_of(batch, skill=skill))
        client.announce_policy_version(run.id, PolicyVersionRequest(policy_version=version))


def make_run(client: EtudeClient) -> Run:
    """A run whose control arm gets half of the slots."""
    dataset = client.create_dataset(DatasetCreate(name="unit"))
    lines = [task(n, subtasks=("format",)).model_dump_json().encode() for n in range(64)]
    client.import_tasks(dataset.id, lines)
    return client.create_run(
        RunCreate(
            name="base",
            dataset_id=dataset.id,
            mode=RunMode.CURRICULUM_ONLY,
            group_size=4,
            curriculum=CurriculumConfig(preset="dscl", control_share=0.5),
        )
    )


def test_two_forks_are_compared_by_their_control_arms(scene: Scene) -> None:
    url, client = scene
    base = make_run(client)
    assert "one arm has no groups yet" in told(url, "show", "base")
    play(client, base, versions=range(1, 3), skill=0.4)
    mark = client.create_checkpoint(base.id, CheckpointCreate())
    left, right = (
        client.fork_run(base.id, ForkRequest(name=name, checkpoint_id=mark.id))
        for name in ("left", "right")
    )
    play(client, left, versions=range(3, 8), skill=0.4)
    play(client, right, versions=range(3, 9), skill=0.85)
    found = json.loads(told(url, "compare", "left", "right", "--json"))
    assert (found["verdict"], found["basis"]) == ("better", "control")
    assert found["common"]["run_id"] == base.id
    assert found["common"]["policy_version"] == 2
    assert found["budget_rollouts"] == 5 * 16 * 4
    gap = found["differences"]["control.success_rate"]
    assert gap["low"] > 0.2
    assert gap["high"] < 0.7
    assert found["pairs"]["num_tasks"] > 20
    assert found["pairs"]["difference"]["low"] > 0.0
    lines = told(url, "compare", "right", "left").splitlines()
    assert lines[0].startswith("left is worse than right: success of the control arm over the same")
    assert "repeat with other seeds" in lines[-1]
    same = json.loads(told(url, "compare", "left", "left", "--json"))
    assert same["verdict"] == "cannot_tell"
    shown = told(url, "show", "right")
    assert "control: " in shown
    assert "since the beginning, with 95 % intervals:" in shown
    assert "difference, curriculum less control: " in shown
