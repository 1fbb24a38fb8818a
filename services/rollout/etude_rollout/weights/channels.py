"""Weight channels, seen from a worker: where announced weights come from, how an engine gets them.

`disk` reads the announced directory. `gloo` and `nccl` ask the trainer to send it from process to
process, by the directory's name; whoever cannot be sent to (the trainer is away, or died half-way,
or no longer has that version) reads the directory, which is the durable copy. Adapters are small
and always read. Used by `loader.py`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import ValidationError

from etude_proto.v1.weights import Transfer, TransferBackend, TransferRequest

from ..engines.base import Engine, EngineUnavailable, WeightsRefused
from .disk import DiskChannel, WeightsMissing
from .files import is_adapter
from .parity import Parity, read_parity

_log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 10.0
"""For the trainer's answer, not for the weights (our choice)."""


class Incoming(Protocol):
    """Announced weights that were found."""

    @property
    def origin(self) -> str:
        """For messages."""

    @property
    def parity(self) -> Parity | None:
        """The trainer's probes, if it published any."""

    async def deliver(self, engine: Engine, version: int) -> str:
        """Bring them into the engine; returns the name of the channel that did.

        Raises:
            WeightsMissing: gone meanwhile.
            WeightsRefused: the engine cannot take them; the old ones still serve.
            EngineError: the engine failed.
        """


class WeightChannel(Protocol):
    """Finds announced weights."""

    async def find(self, uri: str, engine: Engine) -> Incoming:
        """The weights of an announced `weights_uri`.

        Raises:
            WeightsMissing: not there.
            WeightsRefused: not a place that weights may come from, or damaged probes.
            EngineError: the engine cannot say how it receives.
        """


@dataclass(frozen=True, slots=True)
class InDirectory:
    """A directory on the shared volume."""

    directory: Path
    parity: Parity | None

    @property
    def origin(self) -> str:
        """The directory."""
        return str(self.directory)

    async def deliver(self, engine: Engine, version: int) -> str:
        """Have the engine read it; see `Incoming.deliver`."""
        await engine.load_weights(self.directory, version=version)
        return "lora" if is_adapter(self.directory) else "disk"


class FromDisk:
    """The `disk` channel."""

    def __init__(self, disk: DiskChannel) -> None:
        self._disk = disk

    async def find(self, uri: str, engine: Engine) -> InDirectory:
        """The directory of the URI, with its probes; see `WeightChannel.find`."""
        del engine
        return await asyncio.to_thread(self._find, uri)

    def _find(self, uri: str) -> InDirectory:
        directory = self._disk.resolve(uri)
        return InDirectory(directory, read_parity(directory))


@dataclass(frozen=True, slots=True)
class OverTheWire:
    """An open transfer, with the way back to the disk."""

    transfer: Transfer
    parity: Parity | None
    uri: str
    disk: FromDisk

    @property
    def origin(self) -> str:
        """The transfer."""
        return f"{self.transfer.backend} {self.transfer.session}"

    async def deliver(self, engine: Engine, version: int) -> str:
        """Have the trainer send; if that breaks, read the directory. See `Incoming.deliver`."""
        try:
            await engine.receive_weights(self.transfer, version=version)
        except EngineUnavailable:
            raise
        except WeightsRefused as error:
            _log.warning("weights.not_received", extra={"uri": self.uri, "detail": error})
            try:
                found = await self.disk.find(self.uri, engine)
            except WeightsMissing:
                raise error from None  # no shared volume: what went wrong on the wire counts
            return await found.deliver(engine, version)
        return self.transfer.backend.value


class FromTrainer:
    """The `gloo` and `nccl` channels."""

    def __init__(
        self,
        disk: DiskChannel,
        client: httpx.AsyncClient,
        *,
        backend: TransferBackend,
    ) -> None:
        """
        Args:
            client: of the trainer's own small API, with its key.
        """
        self._disk = FromDisk(disk)
        self._client = client
        self._backend = backend

    async def find(self, uri: str, engine: Engine) -> Incoming:
        """An open transfer, or else the directory; see `WeightChannel.find`."""
        try:
            transfer = await self._ask(name_of(uri), await engine.world_size())
        except (httpx.HTTPError, ValidationError, _Refused) as error:
            _log.warning("transfer.refused", extra={"uri": uri, "detail": repr(error)})
            return await self._disk.find(uri, engine)
        probes = transfer.probes
        parity = None
        if probes is not None:
            parity = Parity(
                policy_version=transfer.policy_version,
                token_ids=probes.token_ids,
                logprobs=probes.logprobs,
            )
        return OverTheWire(transfer, parity, uri, self._disk)

    async def _ask(self, name: str, world_size: int) -> Transfer:
        request = TransferRequest(backend=self._backend, world_size=world_size)
        answer = await self._client.post(
            f"/v1/weights/{quote(name, safe='')}/transfers",
            content=request.model_dump_json(),
            headers={"content-type": "application/json"},
            timeout=ASK_TIMEOUT_S,
        )
        if not answer.is_success:
            raise _Refused(f"{answer.status_code} {answer.text[:300]}")
        return Transfer.model_validate_json(answer.content)


class _Refused(Exception):
    """The trainer will not send."""


def name_of(uri: str) -> str:
    """Name of the directory that a `weights_uri` points at."""
    return PurePosixPath(unquote(urlsplit(uri).path)).name
