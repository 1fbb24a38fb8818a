"""What a `Curriculum` refuses at the start, and what it says when a process stood still."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import pickle
import random
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import torch.distributed as dist

from etude_client import Curriculum
from etude_client.curriculum import Batch, Item, Rows, TorchRanks
from etude_client.curriculum import reporting as reporting_module
from etude_client.curriculum.keeping import LeaseKeeper
from etude_client.curriculum.reporting import entries_of, part_of, parts_of
from etude_client.errors import EtudeError, LeaseSuperseded
from etude_proto.v1 import Lease, Message, Problem, ProblemCode, TaskCreate
from support.waiting import wait_for


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"on_outtage": "uniform"}, r"no option 'on_outtage'; did you mean on_outage\?"),
        ({"on_outage": "panic"}, "on_outage must be"),
        ({"patience_s": math.nan}, "patience_s must be finite"),
        ({"hold_s": 0}, "hold_s must be finite and positive"),
        ({"ttl_s": 0.01}, r"ttl_s: .* greater than or equal to 0\.2, not 0\.01"),
        ({"worker": "x" * 1000}, "worker: "),
    ],
)
def test_options_are_checked_before_the_first_call(option: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Curriculum("mine", "http://127.0.0.1:9", **option)  # type: ignore[arg-type]


def batch_of(num_tasks: int) -> Batch:
    """Tasks of one lease."""
    rows = Rows(
        [
            TaskCreate(messages=[Message(role="user", content=str(number))], subtasks=["answer"])
            for number in range(num_tasks)
        ]
    )
    claim = Lease(id="lease_1", run_id="run_1", fence=7, deadline_ms=0, ttl_s=60.0)
    drawn = rows.uniform(num_tasks, chance=random.Random(0), num_rollouts=2)
    return Batch(tuple(Item(one.task, 2, one.index, claim, None) for one in drawn), 0)


def test_a_lease_is_extended_as_soon_as_the_sampler_is_back() -> None:
    at_s: list[float] = []

    def extend(lease: Lease) -> Lease:
        at_s.append(time.monotonic())
        if len(at_s) < 5:
            raise EtudeError("away")
        return lease

    keeper = LeaseKeeper(extend, hold_s=60.0)
    begun_s = time.monotonic()
    keeper.keep(Lease(id="lease_1", run_id="run_1", fence=7, deadline_ms=0, ttl_s=3.0), ["task_1"])
    wait_for(lambda: len(at_s) >= 5, what="the fifth attempt")
    keeper.close()
    assert at_s[4] - begun_s < 3.0  # a third of the time to live apart, it would be 5 s


def test_long_reports_are_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting_module, "MOST_OUTCOMES", 6)
    batch = batch_of(8)
    sizes = [2, 2, 2, 1, 9, 3, 3, 0]
    groups = {item.task_id: [0.0] * size for item, size in zip(batch, sizes, strict=True)}
    part = part_of(batch, groups)
    entries, _ = entries_of(batch, parts_of(part, [part]), worker="me")
    made = [[len(groups[name]) for name in entry.task_ids] for entry in entries]
    assert made == [[2, 2, 2], [1], [9], [3, 3]]
    assert len({entry.key for entry in entries}) == 4


def test_a_rank_that_fails_keeps_nobody_waiting() -> None:
    batch = batch_of(2)
    good = part_of(batch, {batch.items[0].task_id: [1.0]})
    bad = part_of(batch, {batch.items[1].task_id: [math.nan]})
    with pytest.raises(ValueError, match=r"rank 1 could not report: .*finite"):
        parts_of(good, [good, bad])
    with pytest.raises(ValueError, match="must be finite"):
        parts_of(bad, [])
    assert parts_of(good, []) == []


def test_a_process_that_stood_still_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lost = Problem(
        type="about:blank",
        title="",
        status=409,
        detail="gone",
        instance="",
        code=ProblemCode.LEASE_SUPERSEDED,
        request_id="",
        retryable=False,
    )

    def extend(lease: Lease) -> Lease:
        raise LeaseSuperseded(lost, 409)

    keeper = LeaseKeeper(extend, hold_s=60.0)
    lease = Lease(id="lease_1", run_id="run_1", fence=7, deadline_ms=0, ttl_s=0.6)
    keeper.keep(lease, ["task_1", "task_2"])
    # Native code that holds the interpreter.
    ctypes.PyDLL(None).usleep(900_000)
    wait_for(lambda: not keeper.open(), what="it is dropped")
    keeper.close()
    assert "lease lease_1 with 2 unreported tasks ran out: no thread of this process ran" in (
        caplog.text
    )


def use(ranks: TorchRanks, said: Queue[str]) -> None:
    """What a forked data-loader worker would do."""
    try:
        said.put(str(ranks.size))
    except RuntimeError as error:
        said.put(str(error))


def test_ranks_are_of_one_process(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    said: Queue[str] = fork.Queue()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        ranks = TorchRanks()
        assert (ranks.rank, ranks.size) == (0, 1)
        worker = fork.Process(target=use, args=(ranks, said))
        worker.start()
        assert "this process is no rank of torch.distributed" in said.get(timeout=30)
        worker.join(30)
        with pytest.raises(RuntimeError, match=r"ranks=OneRank\(\)"):
            _ = pickle.loads(pickle.dumps(ranks)).size
    finally:
        dist.destroy_process_group()
