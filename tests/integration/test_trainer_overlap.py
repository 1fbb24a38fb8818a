"""Steps that overlap: the next batch held and trained while the last step is still on its way.

The trainer is the real command; a gate holds the calls at which it stands. Whatever is killed or
lost then, no step is acked before the one before it, and no group is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etude_proto.v1 import ReleaseRequest
from etude_sampler.embedded import RunningServer
from support.tiny_worker import TRAINING_GROUPS
from support.trainer_scene import ACK, Scene, finish, kill, stopped_at_end, trainer_scene
from support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(tmp_path: Path, database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """A run on a sampler of its own, behind a gate."""
    with trainer_scene(tmp_path, database_url, valkey.url) as scene:
        yield scene


def num_leases(scene: Scene) -> int:
    return scene.client.get_curriculum(scene.run_id).counts.num_training_leases


def test_the_next_batch_trains_while_an_ack_is_held_and_a_stop_gives_back_what_is_held(
    scene: Scene,
) -> None:
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(overlaps=True)) as process:
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        scene.worker.fill()  # a third batch, which must wait for that ack
        assert num_leases(scene) == 2
        scene.gate.open()
        wait_for(lambda: scene.version() == 3, what="all three are acked", timeout_s=60)
        scene.worker.fill(2 * TRAINING_GROUPS)
        process.terminate()
        finish(process)
    assert "lease.lost" not in scene.events()
    assert scene.journal() == list(range(1, scene.version() + 1))
    assert scene.metrics()[1]["staleness_mean"] == 1.0  # rolled out at 0, leased at 0, trained at 1
    assert num_leases(scene) == 0
    scene.check()


def test_a_saved_step_survives_a_kill_and_a_lost_one_takes_the_next_one_with_it(
    scene: Scene,
) -> None:
    # 1. Killed while the ack of one step is held and the next one trains.
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(overlaps=True)) as process:
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        kill(process)
    scene.gate.drop()
    # 2. The next one acks the first step late, gives the second batch back, and holds its ack
    #    while the lease goes to nobody: that step is discarded, and trained again.
    with stopped_at_end(scene.start(max_steps=3, overlaps=True)) as process:
        wait_for(lambda: scene.version() == 2, what="one is late, one is new", timeout_s=60)
        scene.gate.hold(ACK)
        scene.worker.fill(2 * TRAINING_GROUPS)
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        held = scene.noted_leases()[0]
        scene.client.release_training_batch(held.id, ReleaseRequest(fence=held.fence))
        scene.gate.open()
        finish(process)
    assert scene.version() == 4
    assert scene.journal() == [1, 2, 3, 4]
    events = scene.events()
    assert events.count("checkpoint.acked_late") == 1
    assert "lease.lost" in events
    assert events.count("checkpoint.discarded") == 1
    assert num_leases(scene) == 0
    scene.check()
