"""Fetch: lease a training batch, and outlast an absent sampler.

Leases are noted on disk while they are held, so that a trainer that was killed before its
checkpoint gives the groups back at once instead of letting the leases run out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BeforeValidator, TypeAdapter

from etude_client import EtudeClient
from etude_client.call import TrainingFrame
from etude_client.errors import ApiError, Busy, InternalError, Unreachable
from etude_proto.v1 import Lease, ReleaseRequest, TrainingBatchRequest

from ..durable import write_file
from ..errors import Stopped
from ..status import StatusBoard
from ..stop import StopSignal

logger = logging.getLogger(__name__)

RETRY_S: Final = 2.0
"""Pause between two rounds of attempts, on top of the client's own back-off."""

T = TypeVar("T")


def _listed(noted: object) -> object:
    """One lease alone, as former releases noted it, is a list of one."""
    return [noted] if isinstance(noted, dict) else noted


_LEASES: Final = TypeAdapter(Annotated[list[Lease], BeforeValidator(_listed)])


def insist(call: Callable[[], T], *, board: StatusBoard, stop: StopSignal) -> T:
    """Repeat a call that may be repeated until the sampler answers it.

    Raises:
        Stopped: a stop was asked for while the sampler was away.
        ApiError: the sampler answered, and refused.
    """
    while True:
        try:
            answer = call()
        except (Unreachable, Busy, InternalError) as error:
            board.update(reaches_sampler=False, detail=str(error))
            logger.warning("sampler.away", extra={"error": str(error)})
            if stop.wait(RETRY_S):
                raise Stopped("asked to stop while the sampler was away") from error
        else:
            board.update(reaches_sampler=True, detail="")
            return answer


def fetch(
    client: EtudeClient,
    run_id: str,
    request: TrainingBatchRequest,
    *,
    board: StatusBoard,
    stop: StopSignal,
) -> TrainingFrame | None:
    """One long poll; null where no group was ready in time.

    Raises:
        Stopped, ApiError: as `insist`.
    """
    frame = insist(lambda: client.lease_training_batch(run_id, request), board=board, stop=stop)
    return None if frame.manifest.lease is None else frame


class LeaseNote:
    """The leases in hand, as a file; written by the loop's thread and by that of `supply.py`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def add(self, lease: Lease) -> None:
        """Note a lease."""
        with self._lock:
            self._write([*self.read(), lease])

    def remove(self, lease_id: str) -> None:
        """A lease is settled, or its fate is in a checkpoint."""
        with self._lock:
            self._write([one for one in self.read() if one.id != lease_id])

    def clear(self) -> None:
        """All of them are."""
        self._path.unlink(missing_ok=True)

    def read(self) -> list[Lease]:
        """The leases of a trainer that was killed; none where nothing can be read."""
        try:
            return _LEASES.validate_json(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []

    def _write(self, leases: list[Lease]) -> None:
        if leases:
            write_file(self._path, _LEASES.dump_json(leases).decode())
        else:
            self.clear()


def give_back(client: EtudeClient, lease: Lease) -> None:
    """Release a training batch; whatever the answer, it is not ours any more afterwards.

    An unreachable sampler is not waited for: the lease runs out by itself.
    """
    try:
        client.release_training_batch(lease.id, ReleaseRequest(fence=lease.fence))
    except (ApiError, Unreachable) as error:
        logger.warning("lease.release_failed", extra={"lease": lease.id, "error": str(error)})
    else:
        logger.info("lease.released", extra={"lease": lease.id})


def give_back_noted(client: EtudeClient, note: LeaseNote, but: Collection[str]) -> None:
    """Give back every lease that is noted, but for those of settled batches."""
    for lease in note.read():
        if lease.id not in but:
            give_back(client, lease)
