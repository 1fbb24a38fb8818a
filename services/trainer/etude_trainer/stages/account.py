"""Account: where a step's time and memory went, as metrics.

The wall time of a step runs from the end of the training before it to the end of its own: what
of it was not training is waiting, for a batch or for the step before to settle.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field

import torch

from ..status import Stage
from ..throughput import peak_flops, per_second, utilisation

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of a unit of `ru_maxrss`."""


@dataclass(slots=True)
class Account:
    """Seconds of the running step, by stage."""

    device: torch.device
    num_ranks: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    _since_s: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """Count anew: what came before was no step."""
        self.seconds = {}
        self._since_s = time.monotonic()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def close_step(self, learned: dict[str, float]) -> dict[str, float]:
        """The metrics of a trained step, with its times and peak memory; the next one begins."""
        now_s = time.monotonic()
        train_s = self.seconds.get(Stage.TRAIN, 0.0)
        wall_s = now_s - self._since_s
        metrics = {
            "seconds_fetch": self.seconds.get(Stage.FETCH, 0.0),
            "seconds_train": train_s,
            "seconds_step": wall_s,
            "wait_share": max(0.0, 1.0 - per_second(train_s, wall_s)),
            "tokens_per_s": per_second(learned.get("num_tokens", 0.0), train_s),
            "mfu": utilisation(
                learned.get("flops", 0.0),
                seconds=train_s,
                peak=self._peak_flops(),
                num_devices=self.num_ranks,
            ),
            "memory_peak_bytes": float(self._peak_bytes()),
            **learned,  # last: an ack carries the first ones, if there are too many
        }
        self._since_s = now_s
        return metrics

    def take_seconds(self) -> dict[str, float]:
        """The step's seconds so far; the next step has its own."""
        taken, self.seconds = self.seconds, {}
        return taken

    def _peak_flops(self) -> float | None:
        """Operations a second that a device is sold for; null for a CPU."""
        if self.device.type != "cuda":
            return None
        return peak_flops(torch.cuda.get_device_name(self.device))

    def _peak_bytes(self) -> int:
        """Most memory held: of the device in this step, of the process on a host."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
