"""What every replica does beside serving: ring bells, expire leases, guard epochs, drain, sweep.

Every job can run on any number of replicas at once: the scripts and transactions behind it are
idempotent, and a rebuild takes a lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from ..errors import DependencyUnavailable, SamplerError
from ..ports.races import EpochMismatch
from .draining import drain
from .mending import Mending
from .prompts import PromptBatches
from .rebuild import Rebuilder, fault
from .steps import Ground
from .training import TrainingBatches
from .versions import Versions

_LOG = logging.getLogger("etude.background")
_REAP_S = 0.25
_GUARD_S = 1.0
_DRAIN_S = 1.0
_SWEEP_S = 60.0
_CANCEL_AGAIN_S = 0.1
_REBASE_ABOVE = 1e6


class Background:
    """The jobs of one replica; `run` lives as long as the app."""

    def __init__(
        self,
        ground: Ground,
        *,
        prompts: PromptBatches,
        training: TrainingBatches,
        versions: Versions,
        rebuilder: Rebuilder,
        push: Callable[[str], Awaitable[None]],
        sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._ground = ground
        self._prompts = prompts
        self._training = training
        self._versions = versions
        self._mending = Mending(rebuilder, done=lambda: self._wake.set())
        self._push = push
        self._sweep = sweep
        self._runs: dict[str, int] = {}
        """Policy version of each run at the last look."""
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()

    def request_rebuild(self, run_id: str) -> None:
        """Check a run now instead of at the next round."""
        self._wanted.add(run_id)
        self._wake.set()

    async def run(self) -> None:
        """All jobs, for ever; a failed round is logged and tried again."""
        jobs = [
            asyncio.create_task(self._ring()),
            asyncio.create_task(self._loop("guard", self._guard, _GUARD_S, wake=self._wake)),
            asyncio.create_task(self._loop("reap", self._reap, _REAP_S)),
            asyncio.create_task(self._loop("drain", self._drain, _DRAIN_S)),
            asyncio.create_task(self._loop("sweep", self._sweep, _SWEEP_S)),
        ]
        try:
            await asyncio.gather(*jobs)
        finally:
            # Cancelled until they end: `wait_for` of Python 3.11, which redis-py sends through,
            # swallows a cancellation that arrives together with its result.
            while pending := [t for t in (*jobs, *self._mending.pending()) if not t.done()]:
                for job in pending:
                    job.cancel()
                await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)

    async def _loop(
        self,
        name: str,
        job: Callable[[], Awaitable[None]],
        every_s: float,
        *,
        wake: asyncio.Event | None = None,
    ) -> None:
        pause = wake or asyncio.Event()
        while True:
            try:
                await job()
            except (SamplerError, EpochMismatch) as error:
                _LOG.warning("background.failed", extra={"job": name, "error": str(error)})
            except Exception:
                _LOG.exception("background.crashed", extra={"job": name})
            try:
                await asyncio.wait_for(pause.wait(), every_s)
            except TimeoutError:
                continue
            pause.clear()

    async def _ring(self) -> None:
        async for run_id in self._ground.races.bells():
            self._ground.bells.ring(run_id)

    async def _each(
        self, name: str, run_ids: Iterable[str], job: Callable[[str], Awaitable[None]]
    ) -> None:
        """A job on every run; one run's failure is logged and keeps no other run waiting."""
        for run_id in run_ids:
            try:
                await job(run_id)
            except DependencyUnavailable:
                raise
            except (SamplerError, EpochMismatch) as error:
                _LOG.warning(
                    "background.failed", extra={"job": name, "run": run_id, "error": str(error)}
                )
            except Exception:
                _LOG.exception("background.crashed", extra={"job": name, "run": run_id})

    async def _guard(self) -> None:
        """Compare every run's marker in Redis with PostgreSQL's; mend differences."""
        rows = await self._ground.catalog.run_markers()
        wanted, self._wanted = self._wanted, set()
        markers = await self._ground.races.markers([run_id for run_id, _ in rows])
        found = {row[0]: (row, marker) for row, marker in zip(rows, markers, strict=True)}
        for run_id in wanted:
            self._ground.contexts.forget(run_id)

        async def mend(run_id: str) -> None:
            (_, want), marker = found[run_id]
            if marker is None or fault(want, marker) is not None:
                self._mending.begin(run_id)
                return
            if marker.revision != want.revision:
                await self._push(run_id)
            if marker.version != want.version:
                await self._versions.announce(run_id)
            before = self._runs.get(run_id)
            self._runs.setdefault(run_id, want.version)
            if before is None or want.version > before:
                await self._age(run_id, before)
            self._runs[run_id] = want.version

        await self._each("guard", found, mend)

    async def _age(self, run_id: str, before: int | None) -> None:
        """Weights that a replica died over, since the last look; clocks."""
        await self._versions.refresh(run_id, since=before)
        context = await self._ground.contexts.get(run_id)
        state = await self._ground.races.state(context.key)
        for lane, found in enumerate(state.lanes):
            if found.clock > _REBASE_ABOVE:
                await self._ground.races.rebase(context.key, lane)

    async def _reap(self) -> None:
        """End leases whose deadline has passed."""
        await self._each("reap", list(self._runs), self._reap_run)

    async def _reap_run(self, run_id: str) -> None:
        context = await self._ground.contexts.get(run_id)
        prompt, training = await self._ground.races.expired(context.key)
        for lease_id in prompt:
            num = await self._prompts.end(run_id, lease_id, None, kind="expire")
            _LOG.info("lease.expired", extra={"run": run_id, "lease": lease_id, "tasks": num})
        for lease_id in training:
            num = await self._training.end(run_id, lease_id, None, kind="expire")
            _LOG.info("batch.expired", extra={"run": run_id, "lease": lease_id, "groups": num})

    async def _drain(self) -> None:
        """Move decisions from the streams to PostgreSQL."""
        await self._each("drain", list(self._runs), self._drain_run)

    async def _drain_run(self, run_id: str) -> None:
        context = await self._ground.contexts.get(run_id)
        await drain(self._ground, context)
