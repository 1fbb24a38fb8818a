"""A trainer killed or overtaken at every point of docs/adr/0010-trainer-ack.md.

The trainer is the real command in a process of its own, killed with SIGKILL while a gate holds the
call at which it stands; the sampler is real. Afterwards model, announced version and statistics
must agree, and no group may be lost or counted twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from etude_proto.v1 import AckRequest, TrainingBatchRequest
from etude_sampler.embedded import RunningServer
from support.tiny_worker import TRAINING_GROUPS
from support.trainer_scene import ACK, LEASE, Scene, finish, kill, stopped_at_end, trainer_scene
from support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(tmp_path: Path, database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """A run on a sampler of its own, behind a gate."""
    with trainer_scene(tmp_path, database_url, valkey.url) as scene:
        yield scene


def test_killed_at_every_point_with_its_lease_live(scene: Scene) -> None:
    # 1. Leased, nothing saved: the next start gives the batch back at once.
    scene.worker.fill()
    scene.gate.hold(r"GET /v1/runs/\w+")
    process = scene.start()
    with stopped_at_end(process):
        scene.gate.wait_held()  # it looks for its run
        scene.gate.open()
        scene.gate.hold(LEASE, at="reply")
        scene.gate.wait_held()
        scene.gate.open()
        scene.gate.hold(r"GET /v1/runs/\w+")  # what it asks between lease and training
        scene.gate.wait_held()
        kill(process)
    scene.gate.drop()
    counts = scene.client.get_curriculum(scene.run_id).counts
    assert counts.num_training_groups == TRAINING_GROUPS
    # 2. Saved and published, the ack never sent: the next start sends it.
    scene.gate.hold(ACK)
    process = scene.start()
    with stopped_at_end(process):
        scene.gate.wait_held()
        kill(process)
    scene.gate.drop()
    assert scene.version() == 0
    # 3. Version 1 is acked late; then the ack of version 2 is taken, its answer lost.
    scene.gate.hold(LEASE)
    process = scene.start()
    with stopped_at_end(process):
        wait_for(lambda: scene.version() == 1, what="version 1 is acked late", timeout_s=60)
        scene.gate.open()
        scene.gate.hold(ACK, at="reply")
        scene.worker.fill(8)
        scene.gate.wait_held()
        assert scene.version() == 2
        kill(process)
    scene.gate.drop()
    # 4. The next one takes the stored receipt and goes on to version 3.
    with stopped_at_end(scene.start(max_steps=1)) as process:
        scene.worker.fill(8)
        finish(process)
    assert scene.version() == 3
    assert scene.journal() == [1, 2, 3]
    events = scene.events()
    assert events.count("lease.released") == 1
    assert events.count("checkpoint.acked_late") == 2
    assert "checkpoint.discarded" not in events
    assert scene.worker.loaded == [] or "v00000" in scene.worker.loaded[0]
    scene.check()


def test_killed_before_the_ack_and_back_too_late(scene: Scene) -> None:
    scene.worker.fill()
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(ttl_s=1.0)) as process:
        scene.gate.wait_held()
        kill(process)
    scene.gate.drop()
    wait_for(
        lambda: scene.client.get_curriculum(scene.run_id).counts.num_ready_groups > 0,
        what="the lease has run out",
        timeout_s=30,
    )
    with stopped_at_end(scene.start(max_steps=2)) as process:
        while process.is_alive():
            scene.worker.fill()
        finish(process)
    assert scene.version() == 2
    assert scene.journal() == [1, 2]
    assert scene.events().count("checkpoint.discarded") == 1
    published = {path.name[:7] for path in (scene.folder / "weights" / scene.run_id).iterdir()}
    assert published == {"v000001", "v000002"}
    scene.check()


def test_overtaken_in_its_ack_it_takes_over_what_was_announced(scene: Scene) -> None:
    scene.worker.fill()
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(ttl_s=1.0, max_steps=1, state="slow")) as slow:
        scene.gate.wait_held()
        wait_for(
            lambda: scene.client.get_curriculum(scene.run_id).counts.num_ready_groups > 0,
            what="the slow trainer's lease has run out",
            timeout_s=30,
        )
        scene.gate.open_others()
        with stopped_at_end(scene.start(max_steps=1, state="fast")) as fast:
            finish(fast)
        assert scene.version() == 1
        scene.gate.open()
        wait_for(lambda: "lease.lost" in scene.events("slow"), what="it hears", timeout_s=60)
        scene.worker.fill(8)
        finish(slow)
    assert scene.version() == 2
    events = scene.events("slow")
    assert "weights.adopted" in events
    assert scene.journal("slow") == [2]
    scene.check(state="slow")
    # The fast one, started again, finds itself behind and follows.
    with stopped_at_end(scene.start(max_steps=1, state="fast", resume="continue")) as fast:
        scene.worker.fill(8)
        finish(fast)
    assert scene.version() == 3
    assert scene.journal("fast") == [1, 3]
    scene.check(state="fast")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(scene: Scene, number: signal.Signals) -> None:
    with stopped_at_end(scene.start()) as process:
        scene.worker.fill()
        wait_for(lambda: scene.version() == 1, what="a first step", timeout_s=60)
        assert process.pid is not None
        os.kill(process.pid, number)
        finish(process)
    assert scene.client.get_curriculum(scene.run_id).counts.num_training_leases == 0
    scene.check()


def ack_of(fence: int) -> AckRequest:
    """Version 1, by a trainer whose folder is not here."""
    return AckRequest(fence=fence, policy_version=1, weights_uri="/gone/v000001", metrics={})


def test_weights_that_nobody_can_read_are_an_error_not_a_guess(scene: Scene) -> None:
    scene.worker.fill()
    frame = scene.client.lease_training_batch(
        scene.run_id, TrainingBatchRequest(trainer="other", num_groups=TRAINING_GROUPS, wait_s=5)
    )
    lease = frame.manifest.lease
    assert lease is not None
    scene.client.ack_training_batch(lease.id, ack_of(lease.fence))
    with stopped_at_end(scene.start()) as process:
        finish(process, code=1)
    log = (scene.folder / "trainer.log").read_text(encoding="utf-8")
    assert "is at version 1 with weights '/gone/v000001'" in log
