"""Weight channels: how a version's weights reach the engines.

A channel publishes from a checkpoint, so that the same bytes can be published again after a kill,
without the model. `disk.py` is the one that every engine can read.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ..checkpoint import Checkpoint


class WeightChannel(Protocol):
    """Publishes versions and forgets old ones.

    uri = channel.uri(8, lease_id)       # known before the checkpoint is written
    channel.publish(checkpoint)          # idempotent; returns when engines can load it
    ... ack ...
    channel.prune(announced_version=8)
    """

    def open(self) -> None:
        """Make ready and clear what a killed trainer left half published."""

    def uri(self, policy_version: int, lease_id: str) -> str:
        """Where that version of that batch is published."""

    def publish(self, checkpoint: Checkpoint) -> None:
        """Publish the checkpoint's weights at its `weights_uri`; again is a no-op."""

    def withdraw(self, checkpoint: Checkpoint) -> None:
        """Remove a version that was never announced."""

    def prune(self, *, announced_version: int, keep: Collection[str | None] = ()) -> None:
        """Remove versions that no worker may still be told to load, but for the URIs in `keep`."""
