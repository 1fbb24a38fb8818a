"""Loading a run into Redis during a rebuild: sealed for one loader, in small steps, opened last.

The scripts `seal`, `load` and `open` know the loader by its token; this file knows the server that
the token was left on. Neighbours: `views` (the rest of the adapter), `service/rebuild.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from redis.typing import EncodableT, FieldT

from etude_sampler.statistics import Ints

from ...errors import DependencyUnavailable
from ...ports.fence import first_fence
from ...ports.loading import Load, Loader, Progress
from ...ports.races import Announced, EpochMismatch, RaceLimits, RunKey
from .connection import Client, outages
from .decision_log import opening
from .keys import RunKeys, every_key
from .scripts import Scripts, Word, epoch_word
from .training_steps import pack_doubles

COUNTERS = (
    "n_ready",
    "n_leased",
    "n_training",
    "n_drawn",
    "n_expired",
    "n_purged",
    "n_evicted",
    "n_returned",
    "n_dropped",
    "n_replayed",
    "cargo_bytes",
)
_UNLINK = 1000
_AT_ONCE = 1000
"""Tasks of one call: about a millisecond of the server's time (our choice; Lua's `unpack` takes
4,000)."""


class LoadingSteps:
    """`ports.loading.Loads` on one client."""

    _redis: Client
    _scripts: Scripts

    async def seal(self, run_id: str, *, num_tasks: int) -> Loader:
        """Serve and log nothing more of a run, and let only this loader in."""
        keys = RunKeys(run_id)
        loader = Loader(run_id, f"{secrets.token_hex(8)}@{await self._redis.server()}")
        await self._as(loader, "seal", [keys.meta, keys.loading], [num_tasks])
        return loader

    async def wipe(self, loader: Loader) -> None:
        """Forget everything of a sealed run."""
        keys = RunKeys(loader.run_id)
        async with outages():
            names = [
                name
                async for name in self._redis.scan_iter(match=every_key(loader.run_id), count=1000)
                if bytes(name) != keys.loading.encode()
            ]
            for first in range(0, len(names), _UNLINK):
                await self._redis.unlink(*names[first : first + _UNLINK])

    async def forget(self, run_id: str) -> None:
        """Take a run out of service, and forget everything of it."""
        await self.wipe(await self.seal(run_id, num_tasks=0))
        async with outages():
            await self._redis.unlink(RunKeys(run_id).loading)

    async def load(self, run: RunKey, loader: Loader, load: Load) -> None:
        """Add waiting tasks, lane by lane, a millisecond of the server's time at once.

        Their records come last: these are what `progress` counts.
        """
        keys = RunKeys(run.run_id)
        for index in range(run.num_lanes):
            for rows_N in _in_order(load, index):
                arrivals = load.arrivals_NL[rows_N, index].astype("<f8").tobytes()
                step = ["lane", *_packed(load.ordinals_N[rows_N]), arrivals]
                await self._as(loader, "load", [keys.loading, keys.lane(index)], step)
        for first in range(0, len(load.ordinals_N), _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            step = ["tasks", *_packed(load.ordinals_N[rows]), b"".join(load.records[rows])]
            await self._as(loader, "load", [keys.loading, keys.tasks], step)

    async def open(
        self,
        run: RunKey,
        loader: Loader,
        limits: RaceLimits,
        *,
        announced: Announced,
        shares: Sequence[float],
        totals: Sequence[int],
        sizes: Sequence[int],
        num_tasks: int,
    ) -> None:
        """Declare a loaded run ready: the epoch appears last, with everything else, at once."""
        keys = RunKeys(run.run_id)
        zeros = pack_doubles([0.0] * run.num_lanes)
        fields: dict[FieldT, EncodableT] = dict.fromkeys((*COUNTERS, "log_number"), 0)
        fields |= {
            "epoch": epoch_word(run.epoch, loader.token.partition("@")[2]),
            "fence": first_fence(run.epoch),
            "revision": limits.revision,
            "paused": int(limits.paused),
            "cap": limits.cap,
            "worker_cap": limits.worker_cap,
            "max_staleness": limits.max_staleness,
            "cargo_cap": limits.cargo_bytes,
            "version": announced.version,
            "uri": announced.weights_uri or "",
            "w": announced.component_weights_json,
            "shares": pack_doubles(shares),
            "totals": pack_doubles([float(total) for total in totals]),
            "credits": zeros,
            "clocks": zeros,
        }
        first = opening(run, announced, shares=shares, totals=totals, num_tasks=num_tasks)
        await self._as(
            loader,
            "open",
            [keys.loading, keys.meta, keys.tasks, keys.log, *keys.lanes(run.num_lanes)],
            [keys.bell, num_tasks, len(fields), *sizes, *_flat(fields), *_flat(first)],
        )

    async def progress(self, run_ids: Sequence[str]) -> list[Progress | None]:
        """How far the load of each run is."""
        if not run_ids:
            return []
        async with outages(), self._redis.pipeline(transaction=False) as pipe:
            for run_id in run_ids:
                pipe.hmget(RunKeys(run_id).loading, ["n", "of"])
            found = await pipe.execute()
        return [None if n is None or of is None else Progress(int(n), int(of)) for n, of in found]

    async def _as(
        self, loader: Loader, name: str, keys: Sequence[str], words: Sequence[Word]
    ) -> None:
        """Run a script as a loader, on the server that the loader began on."""
        server = loader.token.partition("@")[2]
        if await self._redis.server() != server:
            raise EpochMismatch("Redis was replaced while the run was loaded")
        reply = await self._scripts.run(name, keys, [loader.token, *words])
        if self._redis.seen.run_id != server:
            raise DependencyUnavailable("another Redis server answers")
        if reply[0] != b"ok":
            raise EpochMismatch(f"{name}: the load was {reply[0].decode()}")


def _packed(ordinals_N: Ints) -> list[Word]:
    """Number of tasks, and which."""
    return [len(ordinals_N), ordinals_N.astype("<u4").tobytes()]


def _in_order(load: Load, index: int) -> Iterator[Ints]:
    """Rows of a lane in calls; by arrival time, which a sorted set takes fastest."""
    order: Ints = load.arrivals_NL[:, index].argsort(kind="stable")
    order = order[load.weights_NL[order, index] > 0]
    for first in range(0, len(order), _AT_ONCE):
        yield order[first : first + _AT_ONCE]


def _flat(fields: dict[FieldT, EncodableT]) -> list[Word]:
    """Field, value, field, value ..."""
    words: list[Word] = []
    for name, value in fields.items():
        assert isinstance(name, str)
        assert isinstance(value, (bytes, str, int, float))
        words += [name, value]
    return words
