"""Which demonstrations go with the hard tasks of a prompt batch, and which reports bring along.

The pool of a policy version never changes once the version is made: a repeated call gives the same
bytes. Right completions of the policy come from reports, others with tasks (`aids.demonstration`).
Formulas: `curriculum.demonstrations`. Called by `prompts` and `reporting`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from etude_proto.v1 import (
    Aids,
    BFCLReference,
    CallsReference,
    Demonstration,
    GroupReport,
    Task,
    ToolRLReference,
)
from etude_sampler.curriculum.demonstrations import Entry, Pool, Query, gold_kind, tokens
from etude_sampler.curriculum.hard import FEW_SHOT, HARD_LANE, HardSampling

from ..ports.catalog import TaskRow
from ..ports.demonstrations import DemonstrationRow
from ..ports.races import PromptLease
from .context import RunContext
from .steps import Ground

_OWN = ("none", FEW_SHOT)
"""Scaffold kinds whose answers do not lean on help for their own task."""
SPARE = 2
"""Demonstrations sent beyond those asked for: the worker may find one too long, or wrong."""
MAX_IMPORTED = 4096
"""Most demonstrations that come with tasks; the first ones count (our choice)."""
_MAX_POOLS = 16
"""Pools remembered in this process, one a run and version."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A pool, and what goes over the wire of each of its answers."""

    pool: Pool
    encoded: Mapping[tuple[int, str], bytes]


class Demonstrator:
    """Chooses demonstrations."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._imported: dict[str, list[tuple[Entry, bytes]]] = {}
        self._pools: dict[tuple[str, int, int], _Made] = {}

    async def guide(
        self,
        context: RunContext,
        lease: PromptLease,
        rows: Sequence[TaskRow],
        helps: Sequence[bytes],
    ) -> list[bytes]:
        """The items' help, with demonstrations for those drawn from lane `hard`.

        While there is no demonstration for a task its help stays as it is: it is served bare.
        """
        hard, guided = context.curriculum.hard, list(helps)
        if hard is None:
            return guided
        wanted = {
            i: hard.served(one.weight_micro)
            for i, one in enumerate(lease.drawn)
            if context.curriculum.lanes[one.lane] == HARD_LANE
        }
        if not wanted:
            return guided
        made = await self._pool(context, hard, lease.announced.version)
        for i, level in wanted.items():
            chosen = made.pool.choose(_query(rows[i]), level + SPARE)
            if chosen:
                told = b",".join(made.encoded[entry.ordinal, entry.answer] for entry in chosen)
                scaffold = b'"scaffold":{"kind":"%b","level":%d}' % (FEW_SHOT.encode(), level)
                guided[i] = b'%b,"demonstrations":[%b]%b' % (scaffold, told, _kept(helps[i]))
        return guided

    async def _pool(self, context: RunContext, hard: HardSampling, version: int) -> _Made:
        """What batches of a policy version choose from."""
        key = (context.row.id, context.row.epoch, version)
        if key not in self._pools:
            found = await self._ground.ledger.demonstrations(
                context.row.id, before=version, limit=hard.pool_size
            )
            own = await self._tasks(context, sorted({row.ordinal for row in found}))
            imported = await self._imported_of(context)
            made = await asyncio.to_thread(_make, found, own, imported, hard.lam)
            while len(self._pools) >= _MAX_POOLS:
                self._pools.pop(next(iter(self._pools)))
            self._pools[key] = made
        return self._pools[key]

    async def _imported_of(self, context: RunContext) -> list[tuple[Entry, bytes]]:
        """Demonstrations that the run's tasks bring along; what is imported later is not among."""
        run = context.row
        if run.id not in self._imported:
            ordinals = await self._ground.catalog.tasks_with_aid(
                run.spec.dataset_id, run.spec.sources, "demonstration", among=run.num_tasks
            )
            rows = (await self._tasks(context, ordinals[:MAX_IMPORTED])).values()
            found = [
                (row, answer)
                for row in rows
                if (answer := Aids.model_validate_json(row.aids).demonstration) is not None
            ]
            while len(self._imported) >= _MAX_POOLS:
                self._imported.pop(next(iter(self._imported)))
            self._imported[run.id] = [_known(row, answer, imported=True) for row, answer in found]
        return self._imported[run.id]

    async def _tasks(self, context: RunContext, ordinals: Sequence[int]) -> dict[int, TaskRow]:
        rows = await self._ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
        return {row.ordinal: row for row in rows}


def new_demonstrations(
    groups: Sequence[GroupReport], *, ordinals: Sequence[int], seqs: Sequence[int], version: int
) -> list[DemonstrationRow]:
    """Right completions that a report brings, at most one a group.

    Args:
        groups: of the report.
        ordinals: their tasks.
        seqs: sequence number of each group's last attempt; 0 where it was not applied.
        version: the run's policy version.
    """
    found = []
    for group, ordinal, seq in zip(groups, ordinals, seqs, strict=True):
        attempt = group.attempts[-1]
        answers = [one.completion for one in attempt.outcomes if one.success]
        said = next((answer for answer in answers if answer), None)
        if seq and said is not None and attempt.scaffold_kind in _OWN:
            found.append(DemonstrationRow(seq, ordinal, version, said))
    return found


def _kept(help_: bytes) -> bytes:
    """What stays of an item's other help beside demonstrations: examples of the policy's own."""
    wanted = orjson.loads(b"{%b}" % help_).get("self_example")
    return b"" if wanted is None else b',"self_example":%b' % orjson.dumps(wanted)


def _make(
    found: Sequence[DemonstrationRow],
    tasks: Mapping[int, TaskRow],
    imported: Sequence[tuple[Entry, bytes]],
    lam: float,
) -> _Made:
    known = [_known(tasks[row.ordinal], row.answer, imported=False) for row in found]
    everything = [*known, *imported]
    encoded = {(entry.ordinal, entry.answer): told for entry, told in reversed(everything)}
    return _Made(Pool([entry for entry, _ in everything], lam=lam), encoded)


def _known(row: TaskRow, answer: str, *, imported: bool) -> tuple[Entry, bytes]:
    query, task = _query(row), Task.model_validate_json(row.body)
    entry = Entry(query.ordinal, query.prompt, query.words, query.kind, answer, imported)
    shown = Demonstration(
        task_id=task.id,
        origin="imported" if imported else "policy",
        tools=task.tools,
        request=_request(task),
        answer=answer,
        reference=task.reference if imported else None,
    )
    return entry, shown.model_dump_json().encode()


def _query(row: TaskRow) -> Query:
    """A task as one that asks for demonstrations."""
    task = Task.model_validate_json(row.body)
    tools = [f"{tool.name} {tool.description}" for tool in task.tools]
    prompt = orjson.dumps(
        [
            [message.model_dump(mode="json") for message in task.messages],
            [tool.model_dump(mode="json") for tool in task.tools],
        ]
    )
    return Query(
        ordinal=row.ordinal,
        prompt=hashlib.sha256(prompt).hexdigest(),
        words=tuple(tokens(" ".join([_request(task), *tools]))),
        kind=gold_kind(_num_calls(task)),
    )


def _request(task: Task) -> str:
    """The last user turn."""
    return next((one.content for one in reversed(task.messages) if one.role == "user"), "")


def _num_calls(task: Task) -> int:
    """Calls in the gold; 0 without gold."""
    reference = task.reference
    if isinstance(reference, CallsReference | BFCLReference):
        return len(reference.calls)
    if isinstance(reference, ToolRLReference):
        inside = reference.text.partition("<tool_call>")[2].partition("</tool_call>")[0]
        return sum(1 for line in inside.splitlines() if line.strip())
    return 0
