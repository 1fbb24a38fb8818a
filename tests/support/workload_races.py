"""A run's races in Redis beside their pure model: every step on both, then compared bit for bit.

The model is `etude_sampler.leasing.Lanes`; the other side is the adapter with its Lua scripts on a
real server. No database, no service: what they add is tested elsewhere.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from etude_sampler.leasing import Lanes, arrival, exponentials, lane_key
from etude_sampler.ports.loading import Load
from etude_sampler.ports.races import (
    Announced,
    DrawRequest,
    Entering,
    NoTasks,
    PromptLease,
    RaceLimits,
    RunKey,
)
from etude_sampler.service.entering import pack_records, unpack_records
from etude_sampler.statistics import Floats, Ints
from etude_sampler.store.redis.connection import connect
from etude_sampler.store.redis.views import RedisRaces

from .sampler_app_redis import HotState, read_hot

LIMITS = RaceLimits(
    revision=1, paused=False, cap=1 << 16, worker_cap=1 << 16, max_staleness=4, cargo_bytes=1 << 30
)


@asynccontextmanager
async def races_on(url: str) -> AsyncIterator[RedisRaces]:
    """The adapter on a server."""
    redis = connect(url, pool_size=4, timeout_s=10.0)
    try:
        yield RedisRaces(redis)
    finally:
        await redis.aclose()


@dataclass(slots=True)
class TwinRaces:
    """The same races twice: `lanes` in numpy, `races` in Redis."""

    races: RedisRaces
    names: tuple[str, ...]
    shares: Floats
    seed: int
    num_tasks: int
    lanes: Lanes = field(init=False)
    key: RunKey = field(init=False)
    leases: dict[str, PromptLease] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        self.lanes = Lanes(self.names, num_tasks=self.num_tasks, seed=self.seed)
        self.key = RunKey(f"run_{uuid.uuid4().hex[:12]}", 1, len(self.names))

    async def open(self, weights_NL: Ints) -> None:
        """Load every task with these weights, as a rebuild does."""
        everyone = np.arange(self.num_tasks)
        entries = self.lanes.entries_N.copy()
        draws_NL = self._draws(everyone, entries)
        scores_NL = np.where(weights_NL > 0, arrival(0.0, draws_NL, np.maximum(weights_NL, 1)), 0.0)
        loader = await self.races.seal(self.key.run_id, num_tasks=self.num_tasks)
        await self.races.wipe(loader)
        records = pack_records(entries, weights_NL)
        await self.races.load(self.key, loader, Load(everyone, records, weights_NL, scores_NL))
        await self.races.open(
            self.key,
            loader,
            LIMITS,
            announced=Announced(0, None, "{}"),
            shares=self.shares.tolist(),
            totals=weights_NL.sum(axis=0).tolist(),
            sizes=np.count_nonzero(weights_NL, axis=0).tolist(),
            num_tasks=self.num_tasks,
        )
        self.lanes.enter(everyone, weights_NL)

    def _draws(self, tasks: Ints, entries: Ints) -> Floats:
        return exponentials(
            self.seed,
            ordinals_N=tasks,
            entries_N=entries,
            lane_keys_L=[lane_key(name) for name in self.names],
        )

    async def draw(self, num_tasks: int) -> list[int]:
        """Draw on both; the same tasks, lanes, entries, weights and probabilities."""
        weights_NL = np.stack([race.weights_N for race in self.lanes.races], axis=1)
        entries_N = self.lanes.entries_N
        num_waiting = self.lanes.races[0].num_waiting
        request = DrawRequest(
            num_tasks=num_tasks,
            lease_id=f"lease_{uuid.uuid4().hex}",
            worker="twin",
            ttl_ms=0,
            idempotency_key=uuid.uuid4().hex,
            body_hash="hash",
        )
        found = await self.races.draw(self.key, request)
        if num_waiting == 0:
            assert isinstance(found, NoTasks)
            assert found.reason == "empty"
            return []
        assert isinstance(found, PromptLease)
        want = self.lanes.draw(self.shares, min(num_tasks, num_waiting))
        assert [d.ordinal for d in found.drawn] == want.tasks_B.tolist()
        assert [d.lane for d in found.drawn] == want.lanes_B.tolist()
        assert [d.slot_probability for d in found.drawn] == want.probability_B.tolist()
        assert [d.entry for d in found.drawn] == (entries_N[want.tasks_B] - 1).tolist()
        assert [d.weight_micro for d in found.drawn] == (
            weights_NL[want.tasks_B, want.lanes_B].tolist()
        )
        assert found.num_waiting == want.num_waiting
        self.leases[found.lease_id] = found
        return [d.ordinal for d in found.drawn]

    async def settle(self, lease_id: str, tasks: Sequence[int], weights_NL: Ints, kind: str) -> int:
        """Bring some tasks of a lease back on both sides; the number that the lease keeps."""
        lease = self.leases[lease_id]
        at = np.array(tasks, dtype=np.int64)
        entries = self.lanes.entries_N[at].copy()
        packed = self._draws(at, entries).astype("<f8")
        items = [
            Entering(int(task), record, packed[i].tobytes())
            for i, (task, record) in enumerate(
                zip(tasks, pack_records(entries, weights_NL), strict=True)
            )
        ]
        fence = None if kind == "expire" else lease.fence
        settled = await self.races.settle(self.key, lease_id, fence, kind=kind, items=items)
        assert isinstance(settled, tuple)
        assert settled[0] == len(tasks)
        self.lanes.enter(at, weights_NL)
        if settled[1] == 0:
            del self.leases[lease_id]
        return settled[1]

    async def reweigh(self, tasks: Sequence[int], weights_NL: Ints) -> None:
        """Change weights of those of `tasks` that wait, on both sides (L4)."""
        records = await self.races.entries(self.key, list(tasks))
        entries, _ = unpack_records([record or b"" for record in records])
        packed = pack_records(entries, weights_NL)
        await self.races.reweigh(self.key, list(zip(tasks, packed, strict=True)))
        at = np.array(tasks, dtype=np.int64)
        waits = self.lanes.races[0].weights_N[at] > 0
        for lane, race in enumerate(self.lanes.races):
            race.reweigh(at[waits], weights_NL[waits, lane])

    async def move(self, tasks: Sequence[int], weights_NL: Ints) -> int:
        """Move those of `tasks` that no lease holds on both sides; how many they were."""
        at = np.array(tasks, dtype=np.int64)
        entries = self.lanes.entries_N[at].copy()
        packed = self._draws(at, entries).astype("<f8")
        records = pack_records(entries, weights_NL)
        items = [Entering(t, records[i], packed[i].tobytes()) for i, t in enumerate(tasks)]
        leased = {drawn.ordinal for lease in self.leases.values() for drawn in lease.drawn}
        free = np.array([task not in leased for task in tasks], dtype=bool)
        moved = await self.races.move(self.key, items)
        assert moved == np.count_nonzero(free)
        assert await self.races.move(self.key, items) == 0, "its entry number has been used"
        self.lanes.move(at[free], weights_NL[free])
        return moved

    async def share(self, shares: Floats) -> None:
        """Move the lanes' shares with a new version."""
        self.version += 1
        self.shares = shares
        announced = Announced(self.version, None, "{}")
        await self.races.announce(self.key, announced, shares=shares.tolist())

    async def rebase(self, lane: int) -> None:
        """Subtract a lane's clock on both sides (L6)."""
        assert await self.races.rebase(self.key, lane)
        race = self.lanes.races[lane]
        race.scores_N -= race.clock
        race.clock = 0.0

    def parked(self, hot: HotState) -> set[int]:
        """Tasks whose record says that they stand in no lane."""
        records = hot.hashes["tasks"]
        _, weights_NL = unpack_records([records[b"%d" % task] for task in range(self.num_tasks)])
        return set(np.flatnonzero(weights_NL[:, 0] == 0).tolist())

    async def compare(self, url: str) -> None:
        """Both sides hold the same numbers, to the last bit; every task is in one place."""
        hot = read_hot(url, self.key.run_id)
        leased = {d.ordinal for lease in self.leases.values() for d in lease.drawn}
        waiting = {int(task) for task in hot.lane(0)}
        assert not waiting & leased
        parked = {task for task in self.parked(hot) if task not in leased}
        assert not waiting & parked
        assert waiting | leased | parked == set(range(self.num_tasks))
        assert list(hot.packed("credits")) == self.lanes.credits_L.tolist()
        for index, race in enumerate(self.lanes.races):
            scores = np.full(self.num_tasks, np.inf)
            for task, score in hot.lane(index).items():
                scores[int(task)] = score
            assert scores.tolist() == race.scores_N.tolist()
            assert hot.packed("clocks")[index] == race.clock
            assert hot.packed("totals")[index] == float(race.total)
        records = hot.hashes["tasks"]
        entries, weights_NL = unpack_records(
            [records[b"%d" % task] for task in range(self.num_tasks)]
        )
        assert entries.tolist() == (self.lanes.entries_N - 1).tolist()
        rows = np.array(sorted(waiting), dtype=np.int64)
        model = np.stack([race.weights_N for race in self.lanes.races], axis=1)
        assert weights_NL[rows].tolist() == model[rows].tolist()
