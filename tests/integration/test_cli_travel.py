"""`etude runs checkpoint(s) | restore | fork | diff` against a real sampler, as a person does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from etude_client import EtudeClient
from etude_proto.v1 import (
    DatasetCreate,
    ForkRequest,
    PolicyVersionRequest,
    PromptBatch,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunMode,
)
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.live_sampler import live_sampler
from support.waiting import wait_for
from support.workload import report_of, task


@dataclass(frozen=True, slots=True)
class Scene:
    """A sampler, a run called `base` at version 1, and the command."""

    client: EtudeClient
    url: str
    base: Run

    def lines(self, *words: str, code: int = 0) -> list[str]:
        """What a command prints."""
        environment = {"ETUDE_SAMPLER_URL": self.url, "COLUMNS": "200"}
        result = CliRunner().invoke(app, ["runs", *words], env=environment)
        assert result.exit_code == code, result.output
        return (result.stdout if code == 0 else result.stderr).splitlines()

    def json(self, *words: str) -> object:
        """What a command prints for scripts."""
        (line,) = self.lines(*words, "--json")
        return json.loads(line)

    def play(self, run: Run, *, skill: float, version: int) -> None:
        """Report one batch and announce."""
        request = PromptBatchRequest(num_tasks=4, worker="w")
        batch: PromptBatch = self.client.lease_prompt_batch(run.id, request)
        assert batch.lease is not None
        self.client.report_groups(batch.lease.id, report_of(batch, skill=skill))
        self.client.announce_policy_version(run.id, PolicyVersionRequest(policy_version=version))

    def drained(self, run: Run, num: int) -> None:
        """Wait until the decision log shows these draws."""
        wait_for(
            lambda: len(self.client.list_draws(run.id).items) == num,
            what="the decision log is drained",
            timeout_s=20,
        )


@pytest.fixture
def scene(database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """One version of one run."""
    with live_sampler(database_url, valkey.url) as url, EtudeClient(url) as client:
        dataset = client.create_dataset(DatasetCreate(name="unit"))
        client.import_tasks(
            dataset.id, [task(number).model_dump_json().encode() for number in range(12)]
        )
        spec = RunCreate(
            name="base", dataset_id=dataset.id, mode=RunMode.CURRICULUM_ONLY, group_size=4
        )
        made = Scene(client, url, client.create_run(spec))
        made.play(made.base, skill=0.5, version=1)
        yield made


def test_there_and_back(scene: Scene) -> None:
    (line,) = scene.lines("checkpoint", "base", "--label", "good", "--pin")
    assert "version 1  statistics of 4 tasks" in line
    scene.play(scene.base, skill=0.5, version=2)
    scene.lines("checkpoint", "base")
    table = "\n".join(scene.lines("checkpoints", "base"))
    assert "good" in table
    (line,) = scene.lines("restore", "base", "good")
    assert line.startswith("base went from version 2 back to 1; 4 groups count no more")
    assert scene.client.get_run(scene.base.id).policy_version == 1
    listed = scene.json("checkpoints", "base")
    assert isinstance(listed, dict)
    assert [one["discarded_at"] is None for one in listed["checkpoints"]] == [True, False]
    (line,) = scene.lines("restore", "base", "v2", code=2)
    assert "has no checkpoint 'v2' that can be restored" in line
    (line,) = scene.lines("fork", "base", "other", "--checkpoint", "goodd", code=2)
    assert "no checkpoint is called 'goodd'; did you mean 'good'?" in line
    (line,) = scene.lines("checkpoint", "base", "--version", "7", code=2)
    assert "the run is at version 1, not 7" in line
    (line,) = scene.lines("fork", "base", "new name!", code=2)
    assert "name" in line


def test_two_forks_are_identical_until_they_part(scene: Scene) -> None:
    scene.lines("checkpoint", "base", "--label", "good", "--pin")
    for name in ("left", "right"):
        scene.lines("fork", "base", name, "--checkpoint", "good")
    left, right = (
        next(run for run in scene.client.iter_runs() if run.name == name)
        for name in ("left", "right")
    )
    for run in (left, right):
        scene.play(run, skill=0.5, version=2)
        scene.drained(run, 1)
    (first, *_) = scene.lines("diff", "left", "right")
    assert first == "identical: 1 draws, 1 versions and 12 tasks are the same"
    scene.play(left, skill=0.0, version=3)
    scene.play(right, skill=1.0, version=3)
    for turn in (4, 5, 6):
        for run in (left, right):
            scene.play(run, skill=0.5, version=turn)
    for run in (left, right):
        scene.drained(run, 5)
    found = scene.json("diff", "left", "right")
    assert isinstance(found, dict)
    assert found["identical"] is False
    assert found["common"]["policy_version"] == 1
    assert found["common"]["run_id"] == scene.base.id
    assert [pair["policy_version"] for pair in found["versions"]] == [2, 3, 4, 5, 6]
    assert found["versions"][0]["first"] == found["versions"][0]["second"]
    worst = found["tasks"][0]
    assert worst["first_success"] != worst["second_success"]
    text = "\n".join(scene.lines("diff", "left", "right"))
    assert "mean_reward" in text
    assert "common  version 1" in text


def test_what_was_set_otherwise_is_named(scene: Scene) -> None:
    scene.lines("fork", "base", "plain", "--preset", "uniform", "--seed", "5")
    found = scene.json("diff", "base", "plain")
    assert isinstance(found, dict)
    assert found["config"]["resolved.preset"] == ["dscl", "uniform"]
    assert found["config"]["seed"] == [0, 5]
    assert "name" not in found["config"]
    (line,) = scene.lines("diff", "base", "nobody", code=2)
    assert "no run is called 'nobody'" in line


def test_a_name_that_two_runs_have_is_no_name(scene: Scene) -> None:
    """Not even for reading: the next command may be a deletion."""
    other = scene.client.fork_run(scene.base.id, ForkRequest(name="base"))
    for words in (("show", "base"), ("delete", "base"), ("diff", "base", "x")):
        (line,) = scene.lines(*words, code=2)
        assert scene.base.id in line, line
        assert other.id in line
    assert scene.lines("show", other.id)
