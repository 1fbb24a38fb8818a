"""Loading announced weights into the engine, once, with proof.

The worker calls `ensure` before it generates for a batch. What counts as newest is the lease with
the highest fence, not the highest version: after a restore the version goes back, and the older
weights are the right ones. Neighbours: `disk.py` finds the directory, the engine takes it,
`parity.py` compares.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..engines.base import Engine, WeightsRefused
from .channels import WeightChannel
from .parity import ParityError, largest_gap

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announced:
    """What a prompt batch says about the policy."""

    fence: int
    """Of the batch's lease: orders announcements."""
    policy_version: int
    weights_uri: str | None
    """Null when the engine has the weights by itself."""

    @property
    def weights(self) -> tuple[int, str | None]:
        """What tells one set of weights from another."""
        return self.policy_version, self.weights_uri


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """One finished load."""

    policy_version: int
    seconds: float
    parity_gap: float | None
    """In nats; null when the trainer published no probes."""
    channel: str
    """That brought them: `disk`, `gloo`, `nccl` or `lora`."""


class WeightLoader:
    """Keeps the engine at the newest announced weights."""

    def __init__(
        self,
        engine: Engine,
        channel: WeightChannel,
        *,
        parity_threshold: float,
        require_parity: bool,
        on_load: Callable[[LoadFacts], None],
    ) -> None:
        """
        Args:
            parity_threshold: largest accepted gap, in nats.
            require_parity: whether trained weights (version above 0) without probes are refused.
        """
        self._engine = engine
        self._channel = channel
        self._parity_threshold = parity_threshold
        self._require_parity = require_parity
        self._on_load = on_load
        self._newest: Announced | None = None
        self._loaded: tuple[int, str | None] = (0, None)
        self._lock = asyncio.Lock()

    @property
    def version(self) -> int:
        """Policy version that the next request will meet."""
        return self._engine.version

    async def ensure(self, announced: Announced) -> None:
        """Return when the engine serves the newest announced weights.

        Raises:
            WeightsMissing: the directory is gone; lease again to hear of a newer one.
            WeightsRefused: the engine cannot take it; the old weights still serve.
            EngineError: the transfer failed.
            ParityError: the engine took it and computes something else: stop generating.
        """
        if self._newest is None or announced.fence >= self._newest.fence:
            self._newest = announced
        async with self._lock:
            newest = self._newest
            if newest.weights != self._loaded or not await self._still_holds(newest):
                await self._load(newest)

    async def _still_holds(self, announced: Announced) -> bool:
        uri_is_ours = announced.weights_uri is not None
        return not uri_is_ours or await self._engine.holds(announced.policy_version)

    async def _load(self, announced: Announced) -> None:
        version, uri = announced.weights
        if uri is None:
            await self._engine.set_version(version)
            self._loaded = announced.weights
            return
        incoming = await self._channel.find(uri, self._engine)
        parity = incoming.parity
        if parity is None and self._require_parity and version > 0:
            raise WeightsRefused(f"{incoming.origin} holds no parity.json to prove the load with")
        if parity is not None and parity.policy_version != version:
            raise WeightsRefused(
                f"{incoming.origin} was published as version {parity.policy_version}, not {version}"
            )
        started = time.monotonic()
        channel = await incoming.deliver(self._engine, version)
        seconds = time.monotonic() - started
        gap = None
        if parity is not None:
            ours = await self._engine.score_logprobs(parity.token_ids)
            gap = largest_gap(ours, parity.logprobs)
        self._on_load(LoadFacts(version, seconds, gap, channel))
        _log.info(
            "weights.loaded",
            extra={
                "version": version,
                "seconds": seconds,
                "parity_gap": gap,
                "channel": channel,
                "origin": incoming.origin,
            },
        )
        if gap is not None and gap > self._parity_threshold:
            raise ParityError(
                f"version {version}: log-probabilities differ from the trainer's by {gap:.3g} "
                f"nats, more than {self._parity_threshold:g}; the engine does not serve the "
                f"weights of {incoming.origin}"
            )
        self._loaded = announced.weights
