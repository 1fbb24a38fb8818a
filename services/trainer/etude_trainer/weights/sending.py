"""Sending published weights from process to process (`gloo`, `nccl`), besides the `disk` channel.

A published directory stays the durable copy. Whoever cannot or would rather not read it asks for a
transfer (`api/weights.py`); each transfer has a thread and a process group of its own, so that an
engine that dies, hangs or comes late costs the loop nothing (docs/adr says why). The trainer is
rank 0 and holds the store where the processes meet. `nccl` has not been run on a GPU.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from etude_proto.v1.weights import (
    ProbeSet,
    TensorSpec,
    Transfer,
    TransferBackend,
    TransferRequest,
)

from ..checkpoint import PARITY_FILE, version_of
from ..errors import ConfigError
from ..settings import Settings
from .groups import Group, open_group

logger = logging.getLogger(__name__)

MAX_OPEN: Final = 32
"""Transfers at a time (our choice): each may hold a thread for as long as its timeout."""
_NAME = re.compile(r"v\d{6,}-\w+")


class TransferRefused(Exception):
    """No such transfer can be opened; `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """Where and how weights are sent."""

    backend: TransferBackend
    host: str
    """Address of this machine as the engines reach it; also what is listened on."""
    port: int
    """Of the store; 0 picks a free one."""
    timeout_s: float


def make_sender(settings: Settings) -> Sender | None:
    """What the settings ask for; null where weights are read from the shared volume."""
    if settings.weight_channel == "disk":
        return None
    backend = TransferBackend(settings.weight_channel)
    host, port = settings.transfer_host, settings.transfer_port
    return Sender(SenderOptions(backend, host, port, settings.transfer_timeout_s))


class Sender:
    """Serves the published directories of one folder; its methods may be called by any thread."""

    def __init__(self, options: SenderOptions) -> None:
        self._options = options
        self._folder: Path | None = None
        self._device = torch.device("cpu")
        self._store: torch.distributed.TCPStore | None = None  # type: ignore[name-defined]
        self._open: set[str] = set()
        self._lock = threading.Lock()
        self.num_ended: Counter[str] = Counter()
        """Transfers by how they ended: `sent` or `broken`."""

    def open(self, folder: Path, device: torch.device) -> None:
        """Offer the directories of a run's folder.

        Args:
            device: the model's, through which `nccl` sends.

        Raises:
            ConfigError: the address cannot be listened on, or there is no GPU for `nccl`.
        """
        from torch.distributed import TCPStore, is_nccl_available  # type: ignore[attr-defined]

        options = self._options
        on_gpu = device.type == "cuda" and is_nccl_available()
        if options.backend is TransferBackend.NCCL and not on_gpu:
            raise ConfigError("weight_channel: nccl needs a CUDA device and torch's build for it")
        try:
            listener = socket.create_server((options.host, options.port))
        except OSError as error:
            where = f"{options.host}:{options.port}"
            raise ConfigError(f"transfer_host: cannot listen on {where}: {error}") from error
        port = listener.getsockname()[1]
        self._device = device
        self._store = TCPStore(
            options.host,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=options.timeout_s),
            master_listen_fd=listener.detach(),
        )
        self._folder = folder
        logger.info("transfers.offered", extra={"host": options.host, "port": port})

    def close(self) -> None:
        """Offer nothing more; what is being sent goes on to its end or its timeout."""
        self._folder = None
        self._store = None

    def start(self, name: str, request: TransferRequest) -> Transfer:
        """Open a transfer of the directory `name`; a thread waits for the engine and sends.

        Raises:
            TransferRefused: nothing is offered (yet), too many are open, another backend, or there
                is no such version (any more).
        """
        folder, store, options = self._folder, self._store, self._options
        if folder is None or store is None:
            raise TransferRefused(503, "the trainer has not begun to publish")
        if request.backend is not options.backend:
            raise TransferRefused(409, f"weights are sent by {options.backend} here")
        directory = folder / name
        version = version_of(directory) if _NAME.fullmatch(name) else None
        if version is None:
            raise TransferRefused(404, f"no version {name} is published here (any more)")
        try:
            transfer = self._transfer(directory, version, request, store.port)
            file = safe_open(_weights_file(directory), framework="pt")
        except (OSError, SafetensorError, ValueError) as error:
            raise TransferRefused(404, f"{name} cannot be sent: {error}") from error
        with self._lock:
            if len(self._open) >= MAX_OPEN:
                raise TransferRefused(503, f"{MAX_OPEN} transfers are open")
            self._open.add(transfer.session)
        name = f"transfer {transfer.session}"
        threading.Thread(target=self._run, args=(transfer, file), name=name, daemon=True).start()
        return transfer

    def _transfer(
        self, directory: Path, version: int, request: TransferRequest, port: int
    ) -> Transfer:
        probes = json.loads((directory / PARITY_FILE).read_text(encoding="utf-8"))
        return Transfer(
            session=f"transfer_{uuid.uuid4().hex}",
            backend=request.backend,
            policy_version=version,
            master_address=self._options.host,
            master_port=port,
            world_size=1 + request.world_size,
            timeout_s=self._options.timeout_s,
            tensors=_specs(_weights_file(directory)),
            probes=ProbeSet.model_validate(probes),
        )

    def _run(self, transfer: Transfer, file: safe_open) -> None:
        outcome = "broken"
        try:
            self._send(transfer, file)
            outcome = "sent"
        except RuntimeError as error:  # torch.distributed's errors, of which timeouts are one
            reason = str(error).splitlines()[0]
            logger.warning("transfer.broken", extra={"session": transfer.session, "error": reason})
        finally:
            with self._lock:
                self._open.discard(transfer.session)
                self.num_ended[outcome] += 1
            logger.info(f"transfer.{outcome}", extra={"policy_version": transfer.policy_version})

    def _send(self, transfer: Transfer, file: safe_open) -> None:
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        # A connection of its own: a call that waits blocks the others of its connection.
        timeout = timedelta(seconds=transfer.timeout_s)
        store = TCPStore(
            transfer.master_address, transfer.master_port, is_master=False, timeout=timeout
        )
        try:
            prefixed = PrefixStore(transfer.session, store)
            with open_group(prefixed, transfer, rank=0) as group:
                for spec in transfer.tensors:
                    tensor = file.get_tensor(spec.name)  # type: ignore[no-untyped-call]
                    self._send_one(group, tensor, timeout)
                if transfer.backend is TransferBackend.NCCL:
                    torch.cuda.synchronize(self._device)
        finally:
            for key in store.list_keys():
                if key.startswith(transfer.session):
                    store.delete_key(key)

    def _send_one(self, group: Group, tensor: torch.Tensor, timeout: timedelta) -> None:
        data = tensor.contiguous().reshape(-1).view(torch.uint8)
        if self._options.backend is TransferBackend.NCCL:
            data = data.to(self._device)
        group.broadcast(data, 0).wait(timeout)


def _weights_file(directory: Path) -> Path:
    """The one file of a published version.

    Raises:
        ValueError: there is none, or the version is an adapter, which is small and read from disk.
    """
    files = sorted(directory.glob("*.safetensors"))
    if len(files) != 1 or (directory / "adapter_config.json").exists():
        raise ValueError("it is not one file of model weights")
    return files[0]


def _specs(path: Path) -> list[TensorSpec]:
    """Name, type and shape of every tensor of a file, from its header."""
    specs: list[TensorSpec] = []
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            part = file.get_slice(name)
            dtype = _DTYPES[part.get_dtype()]
            specs.append(TensorSpec(name=name, dtype=dtype, shape=list(part.get_shape())))
    return specs


_DTYPES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
"""safetensors' names of types, and torch's."""
