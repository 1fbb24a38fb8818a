"""The gremlin of a storm: which fault strikes when is a function of the seed alone.

`plan` makes the timeline; `Gremlin` carries it out on the real processes, links and servers, and
repeats old requests out of order. Faults on different victims overlap; one victim suffers one at a
time. `calm` takes everything back.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from redis.exceptions import OutOfMemoryError, RedisError

from .storm_clients import changed, stale
from .storm_diary import Caller, Diary, Sent, http_client, new_key
from .storm_proxy import Link
from .storm_servers import Replica, Server, Valkey, family, send
from .waiting import pass_time, wait_until

KINDS = {
    "cut": 14,
    "delay": 10,
    "swallow": 7,
    "half_close": 8,
    "break_off": 14,
    "repeat": 9,
    "repeat_changed": 7,
    "repeat_stale": 6,
    "repeat_late": 6,
    "kill_replica": 4,
    "stop_replica": 5,
    "kill_postgres": 2,
    "stop_postgres": 2,
    "kill_valkey": 2,
    "stop_valkey": 2,
    "flush": 2,
    "fill": 2,
    "rewind": 2,
}
"""Faults by how often they strike, of about 100 (our choice: the cheap ones are the likelier)."""
FILLER = "etude-storm-filler"
_COPY_EVERY_S = 3.0
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the timeline."""

    number: int
    at_s: float
    kind: str
    roll: int
    """Decides on victims, bytes and requests."""
    seconds: float
    """How long it lasts, where it lasts."""

    def __str__(self) -> str:
        return f"{self.number:5} {self.at_s:8.2f} s  {self.kind:15} {self.seconds:4.2f} s"


def plan(seed: int, num_faults: int, *, every_s: float) -> list[Fault]:
    """The timeline of a seed: `num_faults` faults, `every_s` apart on average."""
    rng = random.Random(f"storm {seed}")
    found, at_s = [], 0.0
    for number in range(num_faults):
        at_s += rng.expovariate(1.0 / every_s)
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        seconds = rng.choice([rng.uniform(0.1, 1.0), rng.uniform(1.0, 4.5)])
        found.append(Fault(number, at_s, kind, rng.getrandbits(32), seconds))
    return found


@dataclass(slots=True)
class Gremlin:
    """Carries out a timeline."""

    replicas: Sequence[Replica]
    links: Sequence[Link]
    postgres: Server
    valkey: Valkey
    caller: Caller
    diary: Diary
    struck: Counter[str] = field(default_factory=Counter)
    _locks: defaultdict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    async def rage(self, faults: Sequence[Fault], *, say: Callable[[str], None]) -> None:
        """Strike every fault at its time; returns when the last has passed."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with http_client() as http, asyncio.TaskGroup() as group:
            self.caller.http = http
            copying = group.create_task(self._copy())
            running = []
            for fault in faults:
                await pass_time(max(0.0, begun + fault.at_s - loop.time()))
                say(str(fault))
                running.append(group.create_task(self._strike(fault)))
            await asyncio.gather(*running)
            copying.cancel()

    async def _copy(self) -> None:
        """Keep a copy of Valkey's files that is a few seconds old."""
        while True:
            async with self._locks["valkey"]:
                with suppress(OSError):
                    await asyncio.to_thread(self.valkey.copy)
            await pass_time(_COPY_EVERY_S)

    async def _strike(self, fault: Fault) -> None:
        rng = random.Random(fault.roll)
        name = fault.kind
        if name in ("cut", "delay", "swallow", "half_close", "break_off"):
            await self._weather(fault, rng)
        elif name.startswith("repeat"):
            await self._repeat(name, rng)
        elif name.endswith("replica"):
            victim = rng.choice(self.replicas)
            async with self._locks[victim.name]:
                await (self._kill(victim) if name.startswith("kill") else self._stop(victim, fault))
        elif name.endswith("postgres"):
            async with self._locks["postgres"]:
                await (
                    self._kill(self.postgres)
                    if name.startswith("kill")
                    else self._stop(self.postgres, fault)
                )
        else:
            async with self._locks["valkey"]:
                await self._on_valkey(fault)
        self.struck[name] += 1

    async def _weather(self, fault: Fault, rng: random.Random) -> None:
        link = rng.choice(self.links)
        if fault.kind in ("delay", "swallow"):
            async with self._locks[link.name]:
                if fault.kind == "delay":
                    link.delay_s = rng.uniform(0.01, 0.4)
                else:
                    link.swallow()
                await pass_time(fault.seconds)
                link.clear()
            return
        for connection in link.some(rng, rng.choice([0.3, 1.0])):
            way = rng.choice(["up", "down"])
            if fault.kind == "cut":
                connection.abort()
            elif fault.kind == "half_close":
                connection.half_close(way)
            else:
                connection.budget[way] = rng.choice([0, rng.randrange(200), rng.randrange(20_000)])

    async def _kill(self, victim: Replica | Server) -> None:
        await victim.kill()
        await victim.start()

    async def _stop(self, victim: Replica | Server, fault: Fault) -> None:
        pids = family(victim.pid)
        send(pids, signal.SIGSTOP)
        await pass_time(fault.seconds)
        send(pids, signal.SIGCONT)

    async def _on_valkey(self, fault: Fault) -> None:
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill_valkey": lambda: self._kill(self.valkey),
            "stop_valkey": lambda: self._stop(self.valkey, fault),
            "rewind": self.valkey.rewind,
            "flush": self._flush,
            "fill": lambda: self._fill(fault),
        }
        await kinds[fault.kind]()

    async def _flush(self) -> None:
        async with self.valkey.client() as redis:
            await redis.flushall()

    async def _fill(self, fault: Fault) -> None:
        """Leave Valkey no memory for a while."""
        async with self.valkey.client() as redis:
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory-policy", "noeviction")
            await redis.config_set("maxmemory", used + _MEGABYTE)
            with suppress(OutOfMemoryError):
                while True:
                    await redis.rpush(FILLER, b"x" * (_MEGABYTE >> 5))
            await pass_time(fault.seconds)
        await self._free()

    async def _free(self) -> None:
        async with self.valkey.client() as redis:
            await redis.config_set("maxmemory", 0)
            await redis.delete(FILLER)

    async def _repeat(self, kind: str, rng: random.Random) -> None:
        """Send an old request again, as it was, changed, under an old fence, or under a new key."""
        old = self.diary.answered()
        if not old:
            return
        sent = rng.choice(old)
        if kind == "repeat":
            await self._same(sent)
            return
        body = {"repeat_changed": changed, "repeat_stale": stale}.get(kind, lambda s: s.body)(sent)
        if body is None or sent.kind != "report":
            return
        key = sent.key if kind == "repeat_changed" else new_key()
        again = await self.caller.send(
            replace(sent, body=body, key=key, status=0, content=b"", code=""),
            expected=("idempotency_key_reused", "lease_superseded", "task_not_leased"),
        )
        want = "idempotency_key_reused" if kind == "repeat_changed" and sent.acknowledged else ""
        if again.acknowledged or (want and again.code != want):
            self.diary.fault(f"{kind} of {sent.path} key {sent.key}: {again.status} {again.code}")

    async def _same(self, sent: Sent) -> None:
        again = await self.caller.send(
            replace(sent, status=0, content=b"", code=""),
            expected=("lease_superseded", "version_conflict") if sent.code else (),
        )
        same = again.content == sent.content if sent.acknowledged else not again.acknowledged
        if not same:
            self.diary.fault(f"repeat of {sent.kind} {sent.path} key {sent.key} differs")

    async def calm(self) -> None:
        """Everything up, every link clear."""
        for link in self.links:
            link.clear()
        for pid in [*(one.pid for one in self.replicas), self.postgres.pid, self.valkey.pid]:
            send(family(pid), signal.SIGCONT)
        with suppress(RedisError):
            await self._free()
        for replica in self.replicas:
            await wait_until(
                lambda replica=replica: replica.answers("/readyz"),  # type: ignore[misc]
                what=f"{replica.name} is ready after the storm",
                timeout_s=60.0,
            )
