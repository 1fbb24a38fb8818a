"""TRL's GRPOTrainer with the curriculum: the documented example, killed, resumed, on two ranks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from etude_client import EtudeClient
from etude_client.adapters.trl import STATE_FILE
from support.live_sampler import gated
from support.trl_example import example, finished, the_run
from support.waiting import wait_for

NUM_TASKS = 4
GROUP_SIZE = 16


def rewards(text: str) -> list[float]:
    """Mean rewards in the order of the logs."""
    return [float(found) for found in re.findall(r"'reward': '?([0-9.]+)", text)]


@pytest.mark.timeout(420)
def test_a_killed_trainer_goes_on_from_its_checkpoint(sampler_url: str, tmp_path: Path) -> None:
    output, log = tmp_path / "digits", tmp_path / "log"
    steps, save_every = 40, 10
    shape = ["--output", str(output), "--batch", str(NUM_TASKS * GROUP_SIZE)]
    shape += ["--steps", str(steps), "--save-every", str(save_every)]
    with gated(sampler_url) as (url, gate), EtudeClient(sampler_url) as client:
        with example(*shape, "--url", url, log=log) as process:
            # After the first checkpoint a step's groups are counted, and it never hears of that.
            gate.hold(r"POST /v1/runs/[^/]+/checkpoints")
            gate.wait_held(timeout_s=180)
            gate.open()
            wait_for(
                lambda: (output / "checkpoint-10" / "trainer_state.json").exists(), what="saved"
            )
            gate.hold(r"POST /v1/leases/[^/]+/groups", at="reply")
            gate.wait_held(timeout_s=180)
            process.kill()
            process.wait()
            gate.drop()
        run = the_run(client, "digits")
        saved = sorted(output.glob("checkpoint-*"), key=lambda one: int(one.name.split("-")[1]))
        states = [json.loads((one / STATE_FILE).read_text()) for one in saved]
        assert [one["policy_version"] for one in states] == [10]
        assert client.get_curriculum(run.id).num_groups_applied > 10 * NUM_TASKS

        with example(*shape, "--url", url, "--resume", log=log) as process:
            text = finished(process, log)
        (restore,) = client.list_restores(run.id).items
        assert restore.policy_version == 10
        assert restore.checkpoint_id == states[0]["checkpoint_id"]
        view = client.get_curriculum(run.id)
        assert view.policy_version == steps
        assert view.num_groups_applied == steps * NUM_TASKS
        assert view.counts.num_prompt_leases == 0
        history = list(client.iter_history(run.id))
        assert [point.policy_version for point in history][-steps:] == list(range(1, steps + 1))
        assert all(point.num_rollouts == NUM_TASKS * GROUP_SIZE for point in history[-steps:])
        assert {lane.name for lane in view.lanes} == {"uniform", "is_digit", "is_right"}
        earned = rewards(text)
        assert earned[-1] > earned[0] + 0.2
        assert re.search(r"is_digit: mastery 0\.[89]", text)


@pytest.mark.timeout(420)
def test_two_ranks_report_one_group(sampler_url: str, tmp_path: Path) -> None:
    output, log = tmp_path / "ranks", tmp_path / "log"
    shape = ["--output", str(output), "--batch", str(2 * GROUP_SIZE), "--steps", "4"]
    with EtudeClient(sampler_url) as client:
        with example(*shape, "--url", sampler_url, log=log, ranks=2) as process:
            finished(process, log)
        run = the_run(client, "ranks")
        view = client.get_curriculum(run.id)
        assert view.policy_version == 4
        assert view.num_groups_applied == 4 * NUM_TASKS
        assert view.counts.num_prompt_leases == 0
        history = list(client.iter_history(run.id))
        assert [point.num_rollouts for point in history[-4:]] == [NUM_TASKS * GROUP_SIZE] * 4
