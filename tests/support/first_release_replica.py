"""A replica of the first release, as a database sees it: its statements, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from . import first_release_sql as old


def plain(url: str) -> str:
    """The address for drivers other than SQLAlchemy's."""
    return url.replace("+asyncpg", "", 1)


@dataclass
class OldReplica:
    """Reports, folds and looks as the first release does, on one connection with its cache."""

    connection: asyncpg.Connection
    run_id: str
    num_reports: int = 0
    num_rows: int = 0
    longest_s: float = 0.0

    async def report(self, num_tasks: int = 4) -> None:
        """One report's transaction."""
        begun = asyncio.get_running_loop().time()
        self.num_reports += 1
        fence = (1 << 50) + self.num_reports
        key, ordinals = f"old-{self.num_reports}", list(range(num_tasks))
        async with self.connection.transaction():
            found = await self.connection.fetch(old.READ, self.run_id, key, ordinals, num_tasks)
            blank: list[object] = [bytes(24)] * num_tasks
            halves: list[object] = [0.5] * num_tasks
            ones: list[object] = [1] * num_tasks
            zeros: list[object] = [0] * num_tasks
            bare: list[object] = ["none"] * num_tasks
            fences: list[object] = [fence] * num_tasks
            own: list[object] = list(ordinals)
            lease: list[object] = [f"lease_{fence}"] * num_tasks
            applied: list[object] = ["applied"] * num_tasks
            ledger: list[list[object]] = [
                *(list(found[0]["seqs"]), lease, own, bare, zeros),
                *(zeros, fences, applied, bare, ones, ones),
                *(zeros, halves, ones, ones, ones, halves, halves, ones, blank, blank, blank),
                ["{}"] * num_tasks,
            ]
            statistics: list[list[object]] = [
                *(own, bare, zeros, fences, halves, halves, halves, ones, ones),
                *(halves, halves, halves, ones, ones, ones, blank, blank),
            ]
            assert len(ledger) == old.NUM_LEDGER_COLUMNS
            assert len(statistics) == old.NUM_STATISTICS_COLUMNS
            counts = await self.connection.fetchrow(
                old.WRITE, self.run_id, *ledger, *statistics, key, "hash", b"receipt"
            )
        assert counts is not None
        assert (counts["written"], counts["folded"]) == (num_tasks, num_tasks)
        self.num_rows += num_tasks
        self.longest_s = max(self.longest_s, asyncio.get_running_loop().time() - begun)

    async def fold(self) -> int:
        """One version's transaction; groups that it folded."""
        async with self.connection.transaction():
            await self.connection.execute(old.FOLD_LOCK, self.run_id)
            head = await self.connection.fetchrow(old.FOLD_HEAD, self.run_id)
            assert head is not None
            where = "AND apply_seq > $2 AND verdict = 'applied' ORDER BY apply_seq"
            groups = await self.connection.fetch(
                f"{old.READ_LEDGER} {where}", self.run_id, head["folded_seq"]
            )
            version = head["policy_version"] + 1
            last = groups[-1]["apply_seq"] if groups else head["folded_seq"]
            await self.connection.execute(
                old.UPDATE_RUN,
                self.run_id,
                version,
                head["trainer_fence"],
                None,
                head["allocator_state"],
                head["totals"],
                last,
            )
            await self.connection.execute(old.INSERT_VERSION, self.run_id, version, None, "{}")
            await self.connection.execute(
                old.INSERT_RECEIPT, self.run_id, f"fold-{version}", "hash", b"receipt"
            )
        return len(groups)

    async def create(self, run_id: str) -> None:
        """A new run."""
        await self.connection.execute(old.INSERT_RUN, run_id, run_id, self.run_id)
        assert (await self.connection.fetch(old.SELECT_RUN, run_id))[0]["epoch"] == 0
        self.run_id = run_id

    async def look(self) -> None:
        """The rest of what it sends."""
        await self.connection.execute(old.STORE_DECISION, self.run_id)
        assert await self.connection.fetch(old.LIST_DATASETS, "", 10)


@asynccontextmanager
async def old_replica(url: str, run_id: str | None = None) -> AsyncIterator[OldReplica]:
    """A replica of the first release, on the newest run or on a given one."""
    connection = await asyncpg.connect(plain(url), timeout=10.0, command_timeout=10.0)
    try:
        newest = "SELECT id FROM runs ORDER BY created_at DESC LIMIT 1"
        yield OldReplica(connection, run_id or await connection.fetchval(newest))
    finally:
        await connection.close()
