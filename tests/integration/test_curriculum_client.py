"""`Curriculum` against a real sampler: counted once, through outages, restarts and processes."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar, cast

import pytest

from etude_client import EtudeClient
from etude_client.curriculum import Batch, Curriculum, DeliveryFailed, NothingToPractise
from etude_proto.v1 import CheckpointCreate, DatasetCreate, RunCreate, RunMode
from support.live_sampler import Gate, gated
from support.waiting import wait_for

ValueT = TypeVar("ValueT")
TASKS = [
    {
        "messages": [{"role": "user", "content": f"{skill} {number}?"}],
        "subtasks": ["format", skill],
        "source": skill,
    }
    for skill in ("add", "multiply")
    for number in range(12)
]

SCORED = (
    b'{"messages": [{"role": "user", "content": "x"}], "subtasks": ["answer"], '
    b'"reference": {"kind": "response"}}'
)


@pytest.fixture
def gate(sampler_url: str) -> Iterator[tuple[str, Gate]]:
    """A way to the sampler that can be cut."""
    with gated(sampler_url) as opened:
        yield opened


def scores(batch: Batch, good: int = 1) -> dict[str, list[dict[str, float]]]:
    """Groups of four rollouts, of which `good` are right."""
    return {
        item.task_id: [
            {"format": 1.0, item.subtasks[1]: float(number < good)} for number in range(4)
        ]
        for item in batch
    }


def num_groups(curriculum: Curriculum) -> int:
    """Groups that the sampler counted."""
    return curriculum.view().num_groups_applied


def in_thread(work: Callable[[], ValueT]) -> tuple[threading.Thread, list[ValueT]]:
    """Work beside the test, and where its result will be."""
    results: list[ValueT] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def test_lost_replies_are_counted_once(gate: tuple[str, Gate]) -> None:
    url, way = gate
    with Curriculum.create("mine", TASKS, url, group_size=4, ttl_s=1.0) as curriculum:
        batch = curriculum.next_batch(4)
        assert [item.num_rollouts for item in batch] == [4] * 4
        assert {item.index for item in batch} < set(range(24))
        way.hold(r"POST /v1/leases/[^/]+/groups", at="reply")
        delivery = curriculum.report(batch, scores(batch))
        way.wait_held()
        way.drop()
        (receipt,) = delivery.receipts(timeout_s=30)
        assert receipt.num_remaining == 0
        assert num_groups(curriculum) == 4
        way.hold(r"POST /v1/runs/[^/]+/policy-versions", at="reply")
        assert curriculum.step(metrics={"loss": 0.5}) == 1
        way.wait_held()
        way.drop()
        assert curriculum.flush(30)
        assert curriculum.view().policy_version == 1
        assert curriculum.status.num_late == 0

        # A slow step: the lease outlives its time to live many times.
        slow = curriculum.next_batch(2)
        (lease,) = slow.leases
        held = curriculum._here().keeper
        wait_for(
            lambda: held.open()[0].deadline_ms > lease.deadline_ms + 2000,
            what="the lease was extended past its end",
        )
        assert len(curriculum.report(slow, scores(slow)).receipts(30)) == 1
        assert num_groups(curriculum) == 6
        wait_for(lambda: not held.open(), what="a reported lease is dropped")

        left = curriculum.next_batch(24)
        curriculum.release(left)
        assert curriculum.view().counts.num_prompt_leases == 0


def test_a_sampler_that_is_away_is_waited_for(gate: tuple[str, Gate]) -> None:
    url, way = gate
    with Curriculum.create("mine", TASKS, url, group_size=4) as curriculum:
        batch = curriculum.next_batch(4)
        way.is_away = True
        curriculum.report(batch, scores(batch))
        curriculum.step()
        with pytest.raises(NothingToPractise, match="the sampler is away"):
            curriculum.next_batch(4, timeout_s=0.5)
        assert curriculum.status.num_pending == 2
        thread, later = in_thread(lambda: curriculum.next_batch(4))
        assert not curriculum.flush(0.1)
        way.is_away = False
        thread.join(timeout=60)
        assert len(later) == 1
        assert curriculum.flush(30)
        assert num_groups(curriculum) == 4
        assert curriculum.policy_version == curriculum.view().policy_version == 1
        assert curriculum.status.num_outages == 1


def test_or_the_trainer_goes_on_uniformly(
    gate: tuple[str, Gate], caplog: pytest.LogCaptureFixture
) -> None:
    url, way = gate
    with Curriculum.create(
        "mine", TASKS, url, group_size=4, on_outage="uniform", patience_s=0.3
    ) as curriculum:
        held = curriculum.next_batch(4)
        way.is_away = True
        alone = curriculum.next_batch(6, whole=True)
        assert [item.origin for item in alone] == ["uniform"] * 6
        assert len({item.index for item in alone}) == 6
        assert "6 tasks are drawn uniformly, without the sampler" in caplog.text
        curriculum.report(held, scores(held))
        curriculum.report(alone, scores(alone))
        curriculum.step()
        state = curriculum.state_dict()
        assert state["checkpoint_id"] is None
        assert len(state["pending"]) == 2
        assert curriculum.status.num_alone == 6

        # Killed here: the next process delivers what this one could not, under the same keys.
        curriculum._here().outbox.close()
        way.is_away = False
        with Curriculum("mine", url, tasks=TASKS) as again:
            again.load_state_dict(state)
            assert num_groups(again) == 4
            assert again.policy_version == again.view().policy_version == 1
            again.load_state_dict(state)
            assert num_groups(again) == 4
            assert {item.origin for item in again.next_batch(4)} == {"curriculum"}


def test_back_to_the_step_of_a_checkpoint(sampler_url: str) -> None:
    def digest() -> str:
        with EtudeClient(sampler_url) as client:
            return client.create_checkpoint(first.run.id, CheckpointCreate()).sha256

    first = Curriculum.create("mine", TASKS, sampler_url, group_size=4)
    for _ in range(3):
        batch = first.next_batch(4)
        first.report(batch, scores(batch))
        first.step()
    state = first.state_dict()
    before = digest()
    prefetched = first.next_batch(4)
    lost = first.next_batch(4)
    first.report(lost, scores(lost, good=4))
    first.step()
    assert first.flush(30)
    assert digest() != before

    with Curriculum("mine", sampler_url, tasks=TASKS) as second:
        assert second.policy_version == 4
        second.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert second.policy_version == 3
        assert digest() == before
        assert num_groups(second) == 12
        # The killed process was not quite dead: what it still says does not count.
        assert first.report(prefetched, scores(prefetched)).receipts(30) == []
        assert first.status.num_late == 1
        assert digest() == before
        batch = second.next_batch(8, whole=True)
        second.report(batch, scores(batch))
        assert second.step() == 4
        assert second.flush(30)
        assert second.view().policy_version == 4
    first.close()
    with (
        Curriculum.create("other", TASKS, sampler_url, group_size=4) as other,
        pytest.raises(ValueError, match="the checkpoint belongs to"),
    ):
        other.load_state_dict(state)


@dataclass
class ThreadRanks:
    """Two ranks as two threads."""

    rank: int
    size: int = 2
    to_second: queue.Queue[object] = field(default_factory=queue.Queue)
    to_first: queue.Queue[object] = field(default_factory=queue.Queue)

    def broadcast(self, value: ValueT | None) -> ValueT:
        if self.rank == 0:
            self.to_second.put(value)
            return cast("ValueT", value)
        return cast("ValueT", self.to_second.get(timeout=60))

    def gather(self, value: ValueT) -> list[ValueT]:
        if self.rank == 1:
            self.to_first.put(value)
            return []
        return [value, cast("ValueT", self.to_first.get(timeout=60))]


def test_ranks_share_one_curriculum(sampler_url: str) -> None:
    first = ThreadRanks(0)
    second = ThreadRanks(1, to_second=first.to_second, to_first=first.to_first)

    def train(ranks: ThreadRanks) -> tuple[list[str], int, str]:
        curriculum = Curriculum.create("mine", TASKS, sampler_url, group_size=4, ranks=ranks)
        batch = curriculum.next_batch(4, whole=True)
        whole = scores(batch)
        half = {name: made[2 * ranks.rank :][:2] for name, made in whole.items()}
        curriculum.report(batch, half)
        curriculum.step()
        state = curriculum.state_dict()
        with pytest.raises(ValueError, match="lease 1 to 24 at a time") as refused:
            curriculum.next_batch(99, whole=True)
        curriculum.load_state_dict(state)
        with pytest.raises(ValueError, match="there already with group_size 4, not 8"):
            Curriculum.create("mine", TASKS, sampler_url, group_size=8, ranks=ranks)
        total = num_groups(curriculum)
        curriculum.close()
        return [item.task_id for item in batch], total, str(refused.value)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(train, (first, second)))
    assert results[0] == results[1]
    assert results[0][1] == 4


def test_another_process_may_lease_what_this_one_reports(sampler_url: str) -> None:
    with Curriculum.create("mine", TASKS, sampler_url, group_size=4) as curriculum:
        sent: Curriculum = pickle.loads(pickle.dumps(curriculum))
        batch: Batch = pickle.loads(pickle.dumps(sent.next_batch(4)))
        curriculum.report(batch, scores(batch))
        assert curriculum.flush(30)
        sent.close()
        assert num_groups(curriculum) == 4
        assert curriculum.status.num_late == 0


def test_what_is_wrong_is_said(sampler_url: str) -> None:
    with EtudeClient(sampler_url) as client:
        dataset = client.create_dataset(DatasetCreate(name="theirs"))
        scored = client.create_dataset(DatasetCreate(name="scored"))
        client.import_tasks(dataset.id, [b'{"messages":[{"role":"user","content":"x"}]}'])
        for name in ("twice", "twice"):
            client.create_run(
                RunCreate(name=name, dataset_id=dataset.id, mode=RunMode.CURRICULUM_ONLY)
            )
        client.import_tasks(scored.id, [SCORED])
        client.create_run(RunCreate(name="trained", dataset_id=scored.id))
    for name, words in {
        "nothing": r"no run named 'nothing'; make it with Curriculum\.create",
        "run_0000": r"no run named .run_0000.",
        "twice": r"several runs named 'twice': give one of run_",
        "trained": r"trained by Etude's trainer \(mode training\)",
    }.items():
        with pytest.raises(ValueError, match=words):
            Curriculum(name, sampler_url)
    with pytest.raises(ValueError, match="needs tasks: the rows to draw from"):
        Curriculum("mine", sampler_url, on_outage="uniform")
    with pytest.raises(ValueError, match=r"have no known shape: .*\"prompt\": \"question\""):
        Curriculum.create("mine", [{"question": "x"}], sampler_url)
    with Curriculum.create("mine", TASKS, sampler_url, group_size=4) as curriculum:
        batch = curriculum.next_batch(2)
        (item, _) = batch
        curriculum.report(batch, {item.task_id: [{"politeness": 1.0}] * 4})
        with pytest.raises(DeliveryFailed, match="politeness: none is a component of this run"):
            curriculum.flush(30)
        with pytest.raises(DeliveryFailed, match="refused"):
            curriculum.next_batch(2)
