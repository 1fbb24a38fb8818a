"""TRL's GRPOTrainer while its sampler is killed and away, by the documented example itself."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from etude_client import EtudeClient
from etude_sampler.embedded import RunningServer
from support.sampler_app_replica import replica
from support.trl_example import examples, the_run
from support.waiting import wait_until

NUM_TASKS = 2
GROUP_SIZE = 16
NUM_STEPS = 60


def num_alone(text: str) -> int:
    """Groups of tasks that the client drew by itself, as the example says in the end."""
    (found,) = re.findall(r"^groups drawn without the sampler: (\d+)$", text, re.MULTILINE)
    return int(found)


@pytest.mark.timeout(420)
async def test_a_trainer_waits_or_goes_on_and_reports_are_kept(
    database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    shape = ["--batch", str(NUM_TASKS * GROUP_SIZE), "--steps", str(NUM_STEPS)]
    shape += ["--save-every", "1000", "--patience", "0.5"]
    waits, goes_on = tmp_path / "waits.log", tmp_path / "goes_on.log"
    servers = (database_url, valkey.url)
    async with replica(*servers, log=tmp_path / "sampler.log") as first:
        port = int(first.url.rsplit(":", 1)[1])
        shape += ["--url", first.url]
        waiting = [*shape, "--output", str(tmp_path / "waits"), "--on-outage", "wait"]
        alone = [*shape, "--output", str(tmp_path / "goes_on"), "--on-outage", "uniform"]
        waits.touch()
        goes_on.touch()
        with examples(waiting, alone, logs=[waits, goes_on]) as both:
            with EtudeClient(first.url) as client:

                async def both_train() -> bool:
                    versions = [run.policy_version for run in client.iter_runs()]
                    return len(versions) == 2 and min(versions) >= 2

                await wait_until(both_train, what="both trainers step", timeout_s=180)
            first.kill()

            async def both_noticed() -> bool:
                text = goes_on.read_text(errors="replace")
                is_waiting = "waiting for it" in waits.read_text(errors="replace")
                _, is_alone, since = text.partition("2 tasks are drawn uniformly, without the sam")
                return is_waiting and bool(is_alone) and "'reward'" in since  # ten steps at most

            await wait_until(both_noticed, what="one waits, one goes on", timeout_s=60)
            async with replica(*servers, log=tmp_path / "sampler.log", port=port) as second:
                code = await asyncio.to_thread(both.wait, 240)
                texts = [log.read_text(errors="replace") for log in (waits, goes_on)]
                assert code == 0, "\n".join(text[-3000:] for text in texts)
                with EtudeClient(second.url) as client:
                    views = [
                        client.get_curriculum(the_run(client, name).id)
                        for name in ("waits", "goes_on")
                    ]
    for text in texts:
        assert f"the sampler at {first.url} is away since" in text
        assert f"the sampler at {first.url} is back after" in text
        assert "came late" not in text
        assert "not delivered" not in text
    drawn_alone = num_alone(texts[1])
    assert num_alone(texts[0]) == 0
    assert 0 < drawn_alone < NUM_STEPS * NUM_TASKS
    for view, missing in zip(views, (0, drawn_alone), strict=True):
        assert view.policy_version == NUM_STEPS
        assert view.num_groups_applied == NUM_STEPS * NUM_TASKS - missing
        assert view.counts.num_prompt_leases == 0
