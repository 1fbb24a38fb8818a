"""`etude rebuild` against a real sampler, as a person does."""

from __future__ import annotations

import json
import re

from redis import Redis
from typer.testing import CliRunner, Result

from etude_client import EtudeClient
from etude_proto.v1 import DatasetCreate, Run, RunCreate, RunMode
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.live_sampler import live_sampler
from support.waiting import wait_for
from support.workload import task


def run_of(client: EtudeClient, name: str) -> Run:
    """A run over six tasks."""
    dataset = client.create_dataset(DatasetCreate(name=f"of {name}"))
    tasks = [task(number).model_dump_json().encode() for number in range(6)]
    client.import_tasks(dataset.id, tasks)
    return client.create_run(
        RunCreate(name=name, dataset_id=dataset.id, mode=RunMode.CURRICULUM_ONLY)
    )


def test_rebuilding_by_hand(database_url: str, valkey: RunningServer) -> None:
    with live_sampler(database_url, valkey.url) as url, EtudeClient(url) as client:
        one, two = run_of(client, "one"), run_of(client, "two")

        def say(*words: str, code: int = 0) -> Result:
            environment = {"ETUDE_SAMPLER_URL": url, "COLUMNS": "200"}
            done = CliRunner().invoke(app, ["rebuild", *words], env=environment)
            assert done.exit_code == code, done.output
            return done

        told = say("one").stdout
        assert re.fullmatch(
            rf"{one.id}  one  was rebuilt as asked; 6 tasks \(0 with statistics\) in \d+\.\d s; "
            r"epoch 2; statistics sha256 [0-9a-f]{16}\n",
            told,
        )
        rows = json.loads(say("--all", "--json").stdout)["rebuilds"]
        assert {row["run_id"]: row["epoch"] for row in rows} == {one.id: 3, two.id: 2}
        assert "is served at epoch 2" in say("two", "--only-lost").stdout
        with Redis.from_url(valkey.url) as redis:
            redis.unlink(f"etude:{{{two.id}}}:meta")
        wait_for(lambda: client.get_run(two.id).epoch == 3, what="it is noticed without a hand")
        assert say("nobody", code=2).stderr == (
            "etude: no run is called 'nobody'; there are 'one', 'two'\n"
        )
        assert say(code=2).stderr == "etude: name a run, or say --all\n"
        assert say("one", "--all", code=2).stderr == "etude: name a run, or say --all\n"
