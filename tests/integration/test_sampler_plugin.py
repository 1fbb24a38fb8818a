"""A strategy from an installed package, on a replica that has it and on one that has not."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from etude_client.errors import BY_CODE, Busy
from etude_proto.v1 import PromptBatch, Run
from etude_sampler.cli import app
from etude_sampler.curriculum import part_table
from etude_sampler.embedded import RunningServer
from support.plugins import HEAD, install_example, lay_out
from support.sampler_app import Api, parse, problem, sampler_app
from support.sampler_app_replica import replica
from support.workload import report_of, task

CURRICULUM = {
    "preset": "mixed_group",
    "weigher": {"name": "novelty", "knobs": {"power": 2.0}},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed."""
    return install_example(tmp_path_factory.mktemp("example"))


async def test_the_example_is_installed_drawn_by_and_missed(
    database_url: str, valkey: RunningServer, site: Path, tmp_path: Path
) -> None:
    """The page's files, built by pip; a broken package beside them harms nobody."""
    lay_out(tmp_path / "broken", {"late": "Nothing"}, source=f"{HEAD}\n1 / 0\n", name="bad-part")
    path = f"{site}{os.pathsep}{tmp_path / 'broken'}"
    log = tmp_path / "sampler.log"
    async with (
        sampler_app(database_url, valkey.url) as without,
        replica(database_url, valkey.url, log=log, environment={"PYTHONPATH": path}) as started,
        httpx.AsyncClient(base_url=started.url, timeout=30.0) as http,
    ):
        told = [json.loads(line) for line in log.read_text("utf-8").splitlines() if "{" in line]
        (broken,) = [line for line in told if line["event"] == "curriculum.part_broken"]
        assert (broken["package"], broken["entry"]) == ("bad-part", "late")
        assert broken["detail"] == "ZeroDivisionError: division by zero"

        having = Api(http)
        tasks = [task(number) for number in range(8)]
        dataset = await having.create_dataset(uuid.uuid4().hex, tasks=tasks)
        spec = {"name": "no", "curriculum": CURRICULUM, "group_size": 4, "dataset_id": dataset}
        refused = await without.post("/v1/runs", spec)
        found = problem(refused, 422, "payload_invalid")
        assert [item.pointer for item in found.errors] == ["/curriculum/weigher/name"]
        assert "unknown weigher 'novelty'; known: uniform" in found.detail

        run = await having.create_run(
            num_tasks=8, dataset_id=dataset, mode="curriculum_only", curriculum=CURRICULUM
        )
        other = await without.create_run(
            num_tasks=8,
            dataset_id=dataset,
            mode="curriculum_only",
            curriculum={"preset": "uniform"},
        )
        batch = await having.lease(run.id, 4)
        key = uuid.uuid4().hex
        for _ in range(2):
            said = problem(
                await without.report(batch, report_of(batch), key=key), 503, "part_not_installed"
            )
            assert said.retryable
            assert "unknown weigher 'novelty'" in said.detail
            assert run.id in said.detail
        assert issubclass(BY_CODE[said.code], Busy), "a worker holds its results and tries again"
        answer = await without.try_lease(run.id)
        problem(answer, 503, "part_not_installed")
        assert answer.headers["retry-after"] == "10"
        for path_of in ("curriculum", "checkpoints"):
            problem(await without.get(f"/v1/runs/{run.id}/{path_of}"), 503, "part_not_installed")
        assert parse(await without.get(f"/v1/runs/{run.id}"), Run).resolved == run.resolved
        parse(await without.try_lease(other.id), PromptBatch)

        assert (await having.reported(batch, report_of(batch), key=key)).num_remaining == 0
        seen = await having.task(run.id, batch.items[0].task.id)
        (term,) = [term for term in seen.weights if term.lane == "format"]
        assert term.weight == 0.25
        assert term.explanation == "(1 + 1 groups)^-2 = 0.2500"
        assert (await having.counts(run.id)).num_waiting == 8


def test_the_example_is_listed_and_what_is_broken_is_said(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"flat": "FlatConfig"}, source=HEAD[:-40], name="bad-part")
    for folder in (site, tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    part_table.cache_clear()
    try:
        plain = CliRunner().invoke(app, ["strategies"], env={"COLUMNS": "300"})
        listed = CliRunner().invoke(app, ["strategies", "--json"])
    finally:
        part_table.cache_clear()
    assert "(1 + groups seen)^-power" in plain.stdout
    assert plain.stderr.startswith("not usable: 'flat' of package bad-part: SyntaxError")
    as_json = json.loads(listed.stdout)
    (mine,) = [part for part in as_json["parts"] if part["name"] == "novelty"]
    assert (mine["kind"], mine["paper"], mine["state"]) == ("weigher", "mine", "n")
    assert [knob["name"] for knob in mine["knobs"]] == ["power"]
    assert [part["package"] for part in as_json["broken"]] == ["bad-part"]
