"""Reports of a worker that climbs ladders, without a model: a task needs a level to succeed."""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.v1 import (
    Aids,
    Attempt,
    GroupReport,
    Hints,
    Message,
    PromptBatch,
    PromptItem,
    Report,
    TaskCreate,
)

from .workload import outcomes, task

G = 4
HINTS = Hints(
    knowledge=["k1", "k2", "k3", "k4"],
    planning=["p1", "p2", "p3", "p4"],
    solution=["s1", "s2", "s3", "s4"],
)


def aided(number: int, aids: Aids | None) -> TaskCreate:
    """The task of a number, with aids; its documents stand before the question."""
    plain = task(number)
    context = "".join(f"{text}. " for text in (aids.documents if aids else ()))
    message = Message(role="user", content=context + plain.messages[0].content)
    return TaskCreate(**{**dict(plain), "messages": [message], "aids": aids})


def hinted(num: int) -> list[TaskCreate]:
    """Tasks with all twelve hints."""
    return [aided(number, Aids(hints=HINTS)) for number in range(num)]


def documented(num: int, *, num_documents: int = 4) -> list[TaskCreate]:
    """Tasks with documents of their own."""
    return [
        aided(n, Aids(documents=[f"doc {n}/{i}" for i in range(num_documents)])) for n in range(num)
    ]


def climb(item: PromptItem, *, needs: int, version: int = 0) -> GroupReport:
    """Fail bare, then climb the item's ladder to the first level that is enough."""
    bare = Attempt(outcomes=outcomes([0.0] * G, version=version))
    if item.ladder is None:
        return GroupReport(task_id=item.task.id, attempts=[bare])
    attempts = []
    for rung in item.ladder.rungs:
        won = rung.level >= needs
        attempts.append(
            Attempt(
                scaffold_kind=item.ladder.kind,
                scaffold_level=rung.level,
                outcomes=outcomes([float(won)], version=version),
            )
        )
        if won:
            merged = Attempt(
                scaffold_kind=item.ladder.kind,
                scaffold_level=rung.level,
                number=1,
                outcomes=outcomes([1.0, *[0.0] * (G - 1)], version=version),
                merged=True,
            )
            return GroupReport(task_id=item.task.id, attempts=[bare, *attempts, merged])
    return GroupReport(task_id=item.task.id, attempts=[*attempts, bare])


def climbs(batch: PromptBatch, needs: Sequence[int]) -> Report:
    """A report of a whole batch; task i needs level `needs[ordinal % len(needs)]`."""
    assert batch.lease is not None
    return Report(
        fence=batch.lease.fence,
        groups=[
            climb(item, needs=needs[item.task.ordinal % len(needs)], version=batch.policy_version)
            for item in batch.items
        ],
    )


def rungs(item: PromptItem) -> list[int]:
    """Levels of an item's ladder."""
    return [] if item.ladder is None else [rung.level for rung in item.ladder.rungs]
