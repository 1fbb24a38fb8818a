"""Open leases of this process, kept alive from one thread until they are settled.

`facade.py` hands leases in and out. A beat that fails for want of a server is tried again at the
next one, for the server's clock decides; a lease that is refused is settled or lost, and dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from etude_proto.v1 import Lease

from ..errors import EtudeError, LeaseNotFound, LeaseSuperseded

logger = logging.getLogger("etude_client")

MOST_BEATS_S = 5.0
"""Longest time between two looks at the open leases, and of one beat."""


@dataclass(slots=True)
class _Held:
    lease: Lease
    left: set[str]
    """Tasks that this process has not reported."""
    next_beat_s: float
    until_s: float
    stalled_s: float = 0.0
    """Longest time that this thread overslept."""


class LeaseKeeper:
    """Extends every lease that was handed in, a third of its time to live apart.

    Args:
        extend: extends one lease; may raise `EtudeError`.
        hold_s: a lease is given up after so long: whoever took it has forgotten it.
    """

    def __init__(self, extend: Callable[[Lease], Lease], *, hold_s: float) -> None:
        self._extend = extend
        self._hold_s = hold_s
        self._held: dict[str, _Held] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._free_s = 0.0
        self._thread: threading.Thread | None = None

    def keep(self, lease: Lease, task_ids: Iterable[str], *, is_fresh: bool = True) -> None:
        """Keep a lease alive from now on; extended at once unless it was made just now."""
        now_s = time.monotonic()
        beat_s = now_s + lease.ttl_s / 3 if is_fresh else now_s
        with self._changed:
            if lease.id in self._held:
                return
            self._held[lease.id] = _Held(lease, set(task_ids), beat_s, now_s + self._hold_s)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="etude leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def reported(self, lease_id: str, task_ids: Iterable[str]) -> None:
        """Note that these tasks of a lease are on their way."""
        with self._changed:
            held = self._held.get(lease_id)
            if held is not None:
                held.left.difference_update(task_ids)

    def num_left(self, lease_id: str) -> int:
        """Tasks of a lease that is kept which were not reported; 0 if it is not kept."""
        with self._changed:
            held = self._held.get(lease_id)
            return 0 if held is None else len(held.left)

    def drop(self, lease_id: str) -> bool:
        """Stop; whether it was kept."""
        with self._changed:
            return self._held.pop(lease_id, None) is not None

    def open(self) -> list[Lease]:
        """Leases that are kept now."""
        with self._changed:
            return [held.lease for held in self._held.values()]

    def close(self) -> None:
        """Stop keeping; the leases stay as they are."""
        with self._changed:
            self._closing.set()
            self._held.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=MOST_BEATS_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closing.is_set():
                    return
                due_s = min((held.next_beat_s for held in self._held.values()), default=None)
                now_s = time.monotonic()
                if due_s is None or due_s > now_s:
                    self._changed.wait(None if due_s is None else min(due_s - now_s, MOST_BEATS_S))
                    continue
                due = [held for held in self._held.values() if held.next_beat_s <= now_s]
            for held in due:
                if self._closing.is_set():
                    return
                self._beat(held, now_s)
            self._free_s = time.monotonic()

    def _beat(self, held: _Held, now_s: float) -> None:
        # Beyond the time that this thread spent on other leases, nothing but a stop makes it late.
        held.stalled_s = max(held.stalled_s, now_s - max(held.next_beat_s, self._free_s))
        held.next_beat_s = now_s + held.lease.ttl_s / 3
        if now_s >= held.until_s:
            logger.warning(
                "lease %s was neither reported nor released for %.0f s: it is given up",
                held.lease.id,
                self._hold_s,
            )
            self.drop(held.lease.id)
            return
        try:
            held.lease = self._extend(held.lease)
        except (LeaseNotFound, LeaseSuperseded) as error:
            if self.drop(held.lease.id):
                self._say_why(held, error)
        except EtudeError as error:
            # Soon again: the next regular beat may be the moment at which the lease ends.
            held.next_beat_s = time.monotonic() + min(MOST_BEATS_S, held.lease.ttl_s / 10)
            logger.debug("lease %s could not be extended: %s", held.lease.id, error)
        except Exception:  # nobody would be told of a thread that ended
            if not self._closing.is_set():
                logger.exception("lease %s could not be extended", held.lease.id)

    def _say_why(self, held: _Held, error: EtudeError) -> None:
        if held.left and held.stalled_s > held.lease.ttl_s / 3:
            logger.warning(
                "lease %s with %d unreported tasks ran out: no thread of this process ran for "
                "%.0f s, and its ttl_s is %g (something held the interpreter, or the host "
                "stopped); give a ttl_s that outlasts it",
                held.lease.id,
                len(held.left),
                held.stalled_s,
                held.lease.ttl_s,
            )
        else:
            logger.info("lease %s is settled or lost: %s", held.lease.id, error)
