"""Steps that overlap: the next batch held and trained while the last step is still on its way.

The trainer is the real command; a gate holds the calls at which it stands. Whatever is killed or
lost then, no step is acked before the one before it, and no group is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etude_client import EtudeClient
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


def test_the_next_batch_trains_while_an_ack_is_held(scene: Scene) -> None:
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(max_steps=3, overlaps=True)) as process:
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        scene.gate.open()
        wait_for(lambda: scene.version() == 2, what="both are acked", timeout_s=60)
        scene.worker.fill()
        finish(process)
    assert scene.version() == 3
    assert scene.journal() == [1, 2, 3]
    metrics = scene.metrics()
    assert metrics[1]["staleness_mean"] == 1.0  # rolled out at 0, leased at 0, trained at 1
    assert num_leases(scene) == 0
    scene.check()


def test_killed_between_a_saved_step_and_the_next_ones_training(scene: Scene) -> None:
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(overlaps=True)) as process:
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        kill(process)
    scene.gate.drop()
    with stopped_at_end(scene.start(max_steps=1, overlaps=True)) as process:
        finish(process)
    assert scene.version() == 2
    assert scene.journal() == [1, 2]
    events = scene.events()
    assert events.count("checkpoint.acked_late") == 1
    assert events.count("lease.released") == 1
    scene.check()


def test_a_step_whose_lease_is_lost_takes_the_next_one_with_it(scene: Scene) -> None:
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    with stopped_at_end(scene.start(max_steps=2, overlaps=True)) as process:
        scene.gate.wait_held()
        wait_for(lambda: num_leases(scene) == 2, what="a batch is held ahead", timeout_s=30)
        take_away(scene.client, scene)
        scene.gate.open()
        finish(process)
    assert scene.version() == 2
    assert scene.journal() == [1, 2]
    events = scene.events()
    assert "lease.lost" in events
    assert events.count("checkpoint.discarded") == 1
    assert num_leases(scene) == 0
    scene.check()


def take_away(client: EtudeClient, scene: Scene) -> None:
    """Release the batch whose ack is held, as if its lease had run out."""
    lease = scene.noted_leases()[0]
    client.release_training_batch(lease.id, ReleaseRequest(fence=lease.fence))


def test_a_stop_settles_what_is_saved_and_gives_back_what_is_held(scene: Scene) -> None:
    with stopped_at_end(scene.start(overlaps=True)) as process:
        scene.worker.fill(3 * TRAINING_GROUPS)
        wait_for(lambda: scene.version() >= 1, what="a first step", timeout_s=60)
        process.terminate()
        finish(process)
    assert num_leases(scene) == 0
    assert scene.journal() == list(range(1, scene.version() + 1))
    scene.check()
