"""The decision log in an archive: drained before the snapshot, or said to be cut."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from etude_proto.v1 import Run
from etude_sampler.archives.container import opened
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.archives import practise
from support.replaying import replayed
from support.sampler_app import sampler_app
from support.sampler_app_redis import read_hot
from support.waiting import wait_until


async def etude(database_url: str, redis_url: str, *words: str) -> tuple[dict[str, Any], str]:
    """`etude runs ... --json`: what it prints, and what it says."""
    variables = {
        "ETUDE_DATABASE_URL": database_url,
        "ETUDE_REDIS_URL": redis_url,
        "ETUDE_DEPENDENCY_TIMEOUT_S": "2",
    }
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["runs", *words, "--json"], env=variables
    )
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told, done.stderr


@pytest.fixture
async def undrained(database_url: str, valkey: RunningServer) -> Run:
    """A run whose newest draws and reports are in Redis's log alone; its sampler is gone."""
    run: Run | None = None
    while True:
        async with sampler_app(database_url, valkey.url) as api:
            run = run or await api.create_run(num_tasks=12, mode="curriculum_only", name="origin")
            await api.loaded(run.id)
            await practise(api, run, 1)
            await _drained(valkey, run)
            await practise(api, run, 1)
        if read_hot(valkey.url, run.id).logged:
            return run


async def _drained(valkey: RunningServer, run: Run) -> None:
    async def is_empty() -> bool:
        return not read_hot(valkey.url, run.id).logged

    await wait_until(is_empty, what="the log is drained")


async def test_an_archive_has_every_decision_about_its_ledger(
    undrained: Run, database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    target = str(tmp_path / "run.tar")
    told, said = await etude(database_url, valkey.url, "export", "origin", target)
    assert (told["log_is_complete"], said) == (True, "")
    assert not read_hot(valkey.url, undrained.id).logged
    copy, _ = await etude(database_url, valkey.url, "import", target, "--name", "copy")
    report = await replayed(database_url, copy["run_id"])
    assert (report.verdict, report.gaps) == ("same", [])
    assert report.epochs[-1].num_draws >= 2


async def test_an_archive_without_redis_says_what_is_not_in_it(
    undrained: Run, database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    target = tmp_path / "run"
    away = f"unix://{tmp_path}/nobody.sock"
    told, said = await etude(database_url, away, "export", "origin", str(target))
    assert told["log_is_complete"] is False
    assert said.startswith("etude: Redis does not answer: decisions that were not drained")
    assert len(said.splitlines()) == 1
    assert read_hot(valkey.url, undrained.id).logged
    with opened(target) as archive:
        assert not archive.manifest.log_is_complete
        assert archive.manifest.seal() == told["seal"]
    copy, _ = await etude(database_url, valkey.url, "import", str(target), "--name", "copy")
    report = await replayed(database_url, copy["run_id"])
    assert (report.verdict, report.differences) == ("unexplained", [])
    assert "away when the run was archived" in report.gaps[-1].why
