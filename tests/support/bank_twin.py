"""A run's bank in Redis beside the pure one: every step on both, then compared exactly.

The model is `curriculum.banking.Bank` with a list as ready queue; the other side is the adapter
with its Lua scripts on a real server, on a run of one lane whose keys are written by hand.
"""

from __future__ import annotations

import random
import struct
import uuid
from dataclasses import dataclass, field, replace

from redis import Redis
from redis.typing import EncodableT, FieldT

from etude_sampler.curriculum.banking import Bank, Banked, BankRule, slots_to_fill
from etude_sampler.ports.bank import pack_note
from etude_sampler.ports.races import (
    READY_SCALE,
    Announced,
    Entering,
    NoGroups,
    RunKey,
    TakeRequest,
    TrainingLease,
)
from etude_sampler.store.redis.keys import RunKeys
from etude_sampler.store.redis.scripts import epoch_word
from etude_sampler.store.redis.views import RedisRaces

_KIND_OF_STEP = [
    *["report"] * 5,
    *["drop"] * 5,
    *["take"] * 6,
    *["ack"] * 4,
    *["end", "announce"],
]
_ONE = struct.pack("<d", 1.0)


@dataclass(slots=True)
class TwinBank:
    """The same bank twice."""

    races: RedisRaces
    redis: Redis
    rule: BankRule
    max_staleness: int
    key: RunKey = field(default_factory=lambda: RunKey(f"run_{uuid.uuid4().hex[:12]}", 0, 1))
    bank: Bank = field(init=False)
    ready: list[Banked] = field(default_factory=list)
    lent: dict[str, tuple[TrainingLease, list[Banked]]] = field(default_factory=dict)
    seq: int = 0
    version: int = 0
    num_dropped: int = 0
    num_replayed: int = 0

    async def open(self) -> None:
        """Write what a loader would."""
        self.bank = Bank(self.rule)
        server = str(self.redis.info("server")["run_id"])
        names = ("fence", "log_number", "cargo_bytes", "n_drawn", "n_returned", "version")
        fields: dict[FieldT, EncodableT] = dict.fromkeys(names, 0)
        fields |= {"epoch": epoch_word(0, server), "cargo_cap": 1 << 30}
        fields |= {"max_staleness": self.max_staleness, "totals": _ONE, "clocks": _ONE}
        self.redis.hset(RunKeys(self.key.run_id).meta, mapping=fields)

    async def step(self, rng: random.Random) -> None:
        """One step, drawn by `rng`, on both; then they must agree."""
        kind = rng.choice(_KIND_OF_STEP)
        if kind in ("report", "drop"):
            await self._report(rng.randrange(6), rng.choice([0.4375, 0.75, 0.75, 1.0]), kind)
        elif kind == "take":
            await self._take(rng.randrange(1, 5))
        elif kind == "announce":
            await self._announce()
        elif self.lent:
            how = "ack" if kind == "ack" else rng.choice(["release", "expire"])
            await self._end(rng.choice(sorted(self.lent)), how)
        self._compare()

    async def _report(self, task: int, value: float, kind: str) -> None:
        keys, self.seq = RunKeys(self.key.run_id), self.seq + 1
        lease_id, group = f"lease_{self.seq}", Banked(task, self.seq, self.version, value)
        self.redis.hset(keys.lease(lease_id), mapping={"fence": 1, "worker": "w", "idem": lease_id})
        self.redis.hset(keys.lease_tasks(lease_id), str(task), "drawn")
        assert await self.races.stage(self.key, f"{lease_id}:{task}", b"x" * (self.seq % 7 + 1))
        item = Entering(
            task,
            struct.pack("<II", self.seq, 1),
            _ONE,
            "" if kind == "drop" else str(group.version * READY_SCALE + group.apply_seq),
            f'{{"value":{value!r}}}'.encode(),
            pack_note(self.rule, value, was_dropped=kind == "drop"),
        )
        await self.races.settle(self.key, lease_id, 1, kind="report", items=[item])
        self.bank.note(task, value)
        if kind == "drop":
            self.num_dropped += 1
        else:
            self.ready.append(group)

    async def _take(self, num: int) -> None:
        lease_id = f"tb_{uuid.uuid4().hex[:8]}"
        found = await self.races.take(
            self.key, TakeRequest(num, 1 << 30, lease_id, 60_000, lease_id, "hash")
        )
        slots = slots_to_fill(
            num,
            num_ready=len(self.ready),
            num_dropped=self.num_dropped,
            num_banked=len(self.bank),
        )
        if len(self.ready) + slots < num:
            assert isinstance(found, NoGroups)
            return
        assert isinstance(found, TrainingLease)
        self.ready.sort(key=lambda one: (one.version, one.apply_seq))
        fresh, self.ready = self.ready[:num], self.ready[num:]
        taken = [*fresh, *self.bank.take(slots)]
        names = [(f"lease_{one.apply_seq}:{one.ordinal}", one.num_replays) for one in taken]
        assert [(one.group_id, one.num_replays) for one in found.groups] == names
        replayed = await self.races.replayed(self.key, lease_id)
        assert [one.group_id for one in replayed] == [name for name, again in names if again]
        self.lent[lease_id] = (found, taken)
        self.num_dropped = 0

    async def _end(self, lease_id: str, kind: str) -> None:
        lease, taken = self.lent.pop(lease_id)
        fence: int | None = lease.fence
        if kind == "expire":
            fence = None
            self.redis.zadd(RunKeys(self.key.run_id).training_leases, {lease_id: 0})
        await self.races.untake(self.key, lease_id, fence, kind=kind, bank=self.rule)
        good = [one for one in taken if one.version >= self.version - self.max_staleness]
        if kind == "ack":
            self.num_replayed += sum(one.num_replays > 0 for one in taken)
            self.bank.put(good)
            return
        self.ready += [one for one in good if one.num_replays == 0]
        given_back = int(kind == "release")
        self.bank.put(
            replace(one, num_replays=one.num_replays - given_back)
            for one in good
            if one.num_replays > 0
        )

    async def _announce(self) -> None:
        self.version += 1
        await self.races.announce(self.key, Announced(self.version, None, "{}"), shares=[1.0])
        oldest = self.version - self.max_staleness
        self.ready = [one for one in self.ready if one.version >= oldest]
        self.bank.purge(oldest)

    def _compare(self) -> None:
        keys = RunKeys(self.key.run_id)
        with self.redis.pipeline() as pipe:
            pipe.zrange(keys.bank, 0, -1, withscores=True)
            for name in (keys.banked, keys.cargo, keys.groups, keys.meta):
                pipe.hgetall(name)
            ranked, banked, cargo, groups, meta = pipe.execute()
        bank = dict(ranked)
        order = sorted(bank, key=lambda name: bank[name], reverse=True)
        model = self.bank.ranked()
        assert [int(bank[name]) for name in order] == [one.rank for one in model]
        entries = [banked[name.rpartition(b":")[2]].split() for name in order]
        found = [(float(p), int(num), name.decode()) for p, num, _, name in entries]
        assert found == [
            (one.priority, one.num_replays, f"lease_{one.apply_seq}:{one.ordinal}") for one in model
        ]
        held = [*model, *self.ready, *(one for _, taken in self.lent.values() for one in taken)]
        names = {f"lease_{one.apply_seq}:{one.ordinal}".encode() for one in held}
        assert set(cargo) == names == set(groups)
        assert int(meta[b"cargo_bytes"]) == sum(map(len, cargo.values()))
        assert int(meta.get(b"n_replayed", 0)) == self.num_replayed
