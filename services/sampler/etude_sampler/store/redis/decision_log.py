"""Entries of a run's decision log, as the stream in Redis holds them; the scripts write most."""

from __future__ import annotations

from collections.abc import Sequence

from redis.typing import EncodableT, FieldT

from ...ports.decisions import LoggedDecision
from ...ports.fence import first_fence
from ...ports.races import Announced, RunKey
from .training_steps import pack_doubles


def opening(
    run: RunKey,
    announced: Announced,
    *,
    shares: Sequence[float],
    totals: Sequence[int],
    num_tasks: int,
) -> dict[FieldT, EncodableT]:
    """Number 0 of an epoch's decisions: what was loaded; replay starts from it."""
    return {
        "number": 0,
        "kind": "open",
        "lease": "",
        "fence": first_fence(run.epoch),
        "version": announced.version,
        "waiting": num_tasks,
        "tasks": " ".join(str(total) for total in totals),
        "records": pack_doubles(shares),
    }


def decision(stream_id: bytes, fields: dict[bytes, bytes]) -> LoggedDecision:
    """An entry of the stream."""
    version, waiting = fields.get(b"version"), fields.get(b"waiting")
    return LoggedDecision(
        stream_id.decode(),
        int(fields[b"number"]),
        fields[b"kind"].decode(),
        fields[b"lease"].decode(),
        abs(int(fields[b"fence"])),  # negated while sealed
        None if version is None else int(version),
        None if waiting is None else int(waiting),
        fields[b"tasks"].decode(),
        fields.get(b"records"),
    )
