"""The weights of a vLLM server: which ones it has, and how it gets others.

Whole models go through the staged plug-in (`weights/vllm_plugin.py`): start -> update, while the
server generates on; then pause (keep) -> finish -> reset the prefix cache -> resume. Requests that
were frozen go on under the new weights, their keys and values computed anew, so that a token's
log-probability is that of the version it is said to be of. A server that cannot say which weights
sampled a token is drained first instead. Adapters are loaded under new names beside the old ones:
no pause. Used by `vllm_engine.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude_proto.v1.weights import Transfer

from ..weights.adapters import adapter_name, check_adapter
from ..weights.files import is_adapter
from ..weights.staging import NOTHING_STAGED
from .base import EngineError, EngineUnavailable, WeightsRefused
from .vllm_api import VllmApi

_log = logging.getLogger(__name__)

UNTOUCHED = "default"
"""vLLM's label of the weights it was started with."""
_OVERTAKEN = (
    NOTHING_STAGED,
    "finish_weight_update called without a matching",
    "start_weight_update must be called before",
)
"""What the plug-in, and vLLM, say of an update that somebody else closed."""
KNOWN_LABELS = 64
"""Loads that a single request can outlive (our choice)."""


def weight_label(version: int) -> str:
    """What vLLM calls a policy version's weights."""
    return f"v{version}"


def version_of_label(label: str) -> int:
    """The version of a label that a worker gave; 0 of the weights a server was started with."""
    return int(label[1:]) if label[:1] == "v" and label[1:].isdigit() else 0


@dataclass(frozen=True, slots=True)
class Served:
    """What the next request meets."""

    model: str
    """Name to put into requests: the model's or an adapter's."""
    version: int
    is_adapter: bool = False
    versions_by_label: Mapping[str, int] = field(default_factory=dict)
    """Of the weights below the name, as vLLM labels them."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that a server was started with."""

    model: str
    model_dir: Path | None
    """Its checkpoint, where it can be read here."""
    max_lora_rank: int | None


def _overtaken(error: EngineError) -> str | None:
    """What to say if a failure is another worker's doing: nothing was swapped in then."""
    if not any(said in str(error) for said in _OVERTAKEN):
        return None
    return (
        "another worker changes the weights of this vLLM, and nothing of ours was swapped in; "
        f"give every worker an engine of its own ({error})"
    )


class Gate:
    """Counts requests under way, and can hold new ones back until there are none."""

    def __init__(self) -> None:
        self._num = 0
        self._is_closed = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """A request is under way."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_closed)
            self._num += 1
        try:
            yield
        finally:
            self._num -= 1
            async with self._changed:
                self._changed.notify_all()

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """No request is under way."""
        self._is_closed = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._num == 0)
            yield
        finally:
            self._is_closed = False
            async with self._changed:
                self._changed.notify_all()


class VllmWeights:
    """The weights of one server; nobody else may change them."""

    def __init__(self, api: VllmApi, base: Base, *, has_spans: bool, gate: Gate) -> None:
        self._api = api
        self._base = base
        self._has_spans = has_spans
        self._gate = gate
        self._lock = asyncio.Lock()
        self._root = Path()
        self.served = Served(base.model, 0)
        self.broken: str | None = None
        """Why the server needs a restart."""

    async def take_over(self, weights_root: Path) -> None:
        """Undo what a worker may have left behind, and announce the root."""
        self._root = weights_root.resolve()
        try:
            await self._api.init_transfer(str(self._root))
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EngineError(
                "this vLLM cannot take weights: start it with `etude-rollout serve-vllm` "
                f"in an environment that has etude-rollout installed ({error})"
            ) from error
        label = await self._api.weight_version()
        self.served = Served(self._base.model, 0, False, {label: version_of_label(label)})
        for model in await self._api.models():
            if model.parent is not None:
                await self._api.unload_adapter(model.id)

    async def load(self, directory: Path, version: int) -> None:
        """Take a published directory, whole or an adapter; see `Engine.load_weights`."""
        if is_adapter(directory):
            await self._load_adapter(directory, version)
        else:
            await self._replace({"path": str(directory)}, version)

    async def receive(self, transfer: Transfer, version: int) -> None:
        """Take what a trainer sends; see `Engine.receive_weights`."""
        info = {"transfer": transfer.model_dump(mode="json", exclude={"probes"})}
        # Longer than the plug-in waits: it has the last word on what became of the update.
        await self._replace(info, version, timeout_s=10 * transfer.timeout_s + 60)

    async def set_version(self, version: int) -> None:
        """Call the loaded weights by this version.

        Raises:
            EngineError: the first version is asked for, and the server holds a later one.
        """
        label = await self._api.weight_version()
        if version == 0 and label not in (UNTOUCHED, weight_label(0)):
            raise EngineError(
                f"vLLM holds weights {label} of an earlier run; restart it to serve its model"
            )
        await self._switch(Served(self._base.model, version, False, {label: version}))

    async def holds(self, version: int) -> bool:
        """Whether the server still has what was loaded last, and this is it."""
        if version != self.served.version:
            return False
        if self.served.is_adapter:
            return self.served.model in {model.id for model in await self._api.models()}
        return await self._api.weight_version() == weight_label(version)

    async def _replace(
        self, info: dict[str, Any], version: int, *, timeout_s: float | None = None
    ) -> None:
        async with self._lock:
            await self._start_update()
            try:
                await self._api.update(info, timeout_s=timeout_s)
            except EngineUnavailable:
                raise
            except EngineError as error:
                raise WeightsRefused(_overtaken(error) or str(error)) from error
            async with self._still():
                await self._finish_update(version)
                # Before the first token of the new weights: it must be known by its label.
                known = {**self._known(), weight_label(version): version}
                await self._switch(Served(self._base.model, version, False, known))

    def _known(self) -> dict[str, int]:
        """Labels of the last loads. After one, a server that samples from the weights it was
        started with has been restarted, so theirs is not among them."""
        loads = {k: v for k, v in self.served.versions_by_label.items() if k != UNTOUCHED}
        return dict(list(loads.items())[-KNOWN_LABELS:])

    @asynccontextmanager
    async def _still(self) -> AsyncIterator[None]:
        """Nothing is being sampled."""
        if not self._has_spans:
            async with self._gate.drained():
                yield
            return
        await self._api.pause()
        try:
            yield
        finally:
            if self.broken is None:
                await self._api.resume()

    async def _start_update(self) -> None:
        try:
            await self._api.start_update()
        except EngineUnavailable:
            raise
        except EngineError:
            # The server was restarted and knows no root, or a worker that died left an update open.
            # Only a failing one closes that; no directory lies below a root under the root's own
            # name, so this fails and changes nothing.
            await self._api.init_transfer(str(self._root))
            try:
                await self._api.update({"path": "."})
            except EngineError as error:
                _log.warning("vllm.update_closed", extra={"detail": error})
            await self._api.start_update()

    async def _finish_update(self, version: int) -> None:
        try:
            await self._api.finish_update(weight_label(version))
            await self._api.reset_prefix_cache()
        except EngineError as error:
            if overtaken := _overtaken(error):
                raise WeightsRefused(overtaken) from error
            # Nobody knows what the model holds now: it must not generate another token.
            self.broken = f"vLLM failed while it swapped weights, restart it: {error}"
            raise EngineError(self.broken) from error

    async def _load_adapter(self, directory: Path, version: int) -> None:
        base = self._base
        name = adapter_name(directory)
        async with self._lock:
            await asyncio.to_thread(
                check_adapter, directory, model_dir=base.model_dir, max_rank=base.max_lora_rank
            )
            loaded = {model.id for model in await self._api.models()}
            if name not in loaded:
                try:
                    await self._api.load_adapter(name, str(directory))
                except EngineUnavailable:
                    raise
                except EngineError as error:
                    raise WeightsRefused(f"{directory}: {error}") from error
            known = self.served.versions_by_label
            await self._switch(Served(name, version, True, known))

    async def _switch(self, served: Served) -> None:
        """The next request meets these; an adapter that it met before is forgotten."""
        before, self.served = self.served, served
        if before.is_adapter and before.model != served.model:
            try:
                await self._api.unload_adapter(before.model)
            except EngineError as error:  # it was gone already
                _log.warning("vllm.adapter_not_unloaded", extra={"detail": error})
