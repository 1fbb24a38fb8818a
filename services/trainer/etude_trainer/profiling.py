"""Profiles: steps M to N of this process, by torch.profiler, as traces for Chrome (Perfetto) and
TensorBoard's profile plug-in.

Every rank profiles its own passes (`parallel/team.py`); one file a rank and step range.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, tensorboard_trace_handler

from .config import ProfilerConfig

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Profiler:
    """Watches the steps that are asked for."""

    config: ProfilerConfig
    folder: Path
    rank: int = 0
    _num_steps: int = 0
    _running: profile | None = field(default=None, repr=False)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around every step; a step that fails ends the profile without a trace of it."""
        self._num_steps += 1
        first, last = self.config.first_step, self.config.last_step
        if first and self._num_steps == first:
            self._running = self._begin()
        yield
        if self._running is None:
            return
        if self._num_steps >= last:
            self._running.stop()
            self._running = None
            logger.info("profile.written", extra={"folder": str(self.folder), "rank": self.rank})
        else:
            self._running.step()

    def _begin(self) -> profile:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        running = profile(
            activities=activities,
            profile_memory=self.config.memory,
            record_shapes=self.config.memory,
            on_trace_ready=tensorboard_trace_handler(str(self.folder), f"rank{self.rank}"),
        )
        running.start()
        return running
