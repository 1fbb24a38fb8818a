"""What Redis holds of a run, read past the sampler, and the laws that it always obeys."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from redis import Redis

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class HotState:
    """A run's keys: `etude:{run}:NAME` by NAME."""

    hashes: dict[str, dict[bytes, bytes]]
    sorted_sets: dict[str, dict[bytes, float]]
    logged: list[dict[bytes, bytes]]
    """Decisions not yet drained."""

    @property
    def meta(self) -> dict[bytes, bytes]:
        """Counters, clocks, shares."""
        return self.hashes["meta"]

    def count(self, name: str) -> int:
        """One counter."""
        return int(self.meta[name.encode()])

    @property
    def epoch(self) -> int:
        """The epoch; after the `@` stands the server that it holds on."""
        return int(self.meta[b"epoch"].partition(b"@")[0])

    def packed(self, name: str) -> tuple[float, ...]:
        """One array of the meta hash."""
        word = self.meta[name.encode()]
        return struct.unpack(f"<{len(word) // 8}d", word)

    def lane(self, index: int) -> dict[bytes, float]:
        """Arrival times in a lane."""
        return self.sorted_sets.get(f"lane:{index}", {})

    def leased(self) -> dict[str, set[bytes]]:
        """Tasks of each live prompt lease."""
        names = [name.decode() for name in self.sorted_sets.get("leases", {})]
        return {name: set(self.hashes[f"lt:{name}"]) for name in names}

    def without_deadlines(self) -> dict[str, object]:
        """Everything that a refused call must leave as it was; the log is drained meanwhile."""
        sets = {
            name: sorted(members) if name in ("leases", "tleases") else members
            for name, members in self.sorted_sets.items()
        }
        return {"hashes": self.hashes, "sets": sets}


def read_hot(redis_url: str, run_id: str) -> HotState:
    """All keys of a run."""
    prefix = f"etude:{{{run_id}}}:"
    hashes: dict[str, dict[bytes, bytes]] = {}
    sorted_sets: dict[str, dict[bytes, float]] = {}
    logged: list[dict[bytes, bytes]] = []
    with Redis.from_url(redis_url) as redis:
        for key in redis.scan_iter(match=prefix + "*", count=1000):
            name = key.decode().removeprefix(prefix)
            kind = redis.type(key)
            if kind == b"hash":
                hashes[name] = redis.hgetall(key)
            elif kind == b"zset":
                sorted_sets[name] = dict(redis.zrange(key, 0, -1, withscores=True))
            else:
                assert (name, kind) == ("log", b"stream"), f"unknown key {name} ({kind!r})"
                logged = [fields for _, fields in redis.xrange(key)]
    return HotState(hashes, sorted_sets, logged)


def check_laws(redis_url: str, run_id: str, *, num_tasks: int) -> HotState:
    """Conservation and exact sums (invariants 1 and 2), from the keys themselves."""
    hot = read_hot(redis_url, run_id)
    waiting = set(hot.lane(0))
    leased = [task for tasks in hot.leased().values() for task in tasks]
    assert len(leased) == len(set(leased)), "a task is in two leases"
    assert not waiting & set(leased), "a leased task still waits"
    assert len(waiting) + len(leased) == num_tasks, "a task leaked"
    assert hot.count("n_leased") == len(leased)
    assert hot.count("n_ready") == len(hot.sorted_sets.get("ready", {}))
    totals = hot.packed("totals")
    records = {
        task: struct.unpack(f"<{len(totals) + 1}I", record)
        for task, record in hot.hashes["tasks"].items()
    }
    assert len(records) == num_tasks
    for index, total in enumerate(totals):
        standing = {task for task in waiting if records[task][index + 1] > 0}
        assert set(hot.lane(index)) == standing, f"lane {index} holds other tasks"
        assert total == sum(records[task][index + 1] for task in waiting)
        assert all(score >= hot.packed("clocks")[index] for score in hot.lane(index).values())
    assert abs(sum(hot.packed("credits"))) < 1e-6
    _check_leases(hot)
    _check_cargo(hot)
    return hot


def _check_leases(hot: HotState) -> None:
    prompt = set(hot.sorted_sets.get("leases", {}))
    training = set(hot.sorted_sets.get("tleases", {}))
    bodies = {name[6:].encode() for name in hot.hashes if name.startswith("lease:")}
    contents = {name[3:].encode() for name in hot.hashes if name.startswith("lt:")}
    assert bodies == contents == prompt | training, "a lease without a body, or the reverse"
    keyed = {word.split(b" ")[0] for word in hot.hashes.get("idem", {}).values()}
    assert keyed == prompt | training
    held = [hot.hashes[f"lease:{name.decode()}"] for name in prompt]
    extra = sum(int(lease.get(b"extra", b"0")) for lease in held)
    assert int(hot.meta.get(b"n_extra", b"0")) == extra, "candidates beyond what is kept"
    per_worker = sum(int(num) for num in hot.hashes.get("workers", {}).values())
    assert per_worker == len(prompt)


def _check_cargo(hot: HotState) -> None:
    """Bytes are counted exactly; groups that are ready or in training have both their parts."""
    cargo = hot.hashes.get("cargo", {})
    assert hot.count("cargo_bytes") == sum(map(len, cargo.values()))
    ready = set(hot.sorted_sets.get("ready", {}))
    training = {
        group
        for lease in hot.sorted_sets.get("tleases", {})
        for group in hot.hashes[f"lt:{lease.decode()}"]
    }
    banked = _banked(hot)
    assert not ready & training, "a group is ready and in training"
    assert not banked & (ready | training), "a banked group is ready or in training"
    assert hot.count("n_training") == len(training)
    held = ready | training | banked
    assert set(hot.hashes.get("groups", {})) == held
    staged = {
        f"{lease}:{task.decode()}".encode()
        for lease, tasks in hot.leased().items()
        for task in tasks
    }
    assert set(cargo) <= held | staged, "trajectories that nothing refers to"
    assert held <= set(cargo), "a group without its trajectories"


def _banked(hot: HotState) -> set[bytes]:
    """Groups of the bank, ranked as their tasks' priorities say; a task has one at most."""
    bank, scale = hot.sorted_sets.get("bank", {}), 2**31
    words = {task: entry.split() for task, entry in hot.hashes.get("banked", {}).items()}
    assert {entry[3] for entry in words.values()} == set(bank)
    for task, (priority, num_replays, place, group) in words.items():
        assert group.rpartition(b":")[2] == task
        assert 0 <= int(num_replays) < 100
        steps = int(float(priority) * 1_000_000 + 0.5)
        assert bank[group] == steps * scale + int(float(place)) % scale
    return set(bank)
