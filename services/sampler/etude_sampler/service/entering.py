"""Tasks on their way into the lanes: fresh draws, packed records; for settle and rebuild."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from etude_sampler.curriculum import Paced, Seeing, micro
from etude_sampler.leasing import exponentials
from etude_sampler.statistics import Bools, Floats, Ints, TaskStatistics

from ..ports.races import Entering
from .context import RunContext

_MAX_MICRO = 2**32 - 1
UNIFORM_MICRO = 1_000_000
"""Weight of every task in lane `uniform`, in units of 1e-6."""


def lane_weights(
    context: RunContext,
    stats: TaskStatistics,
    active_NK: Bools,
    *,
    version: int,
    pace: Mapping[str, JsonValue] | None = None,
    features_NF: Floats | None = None,
) -> Ints:
    """[N, L] integer weights: `uniform`, the component lanes, then those of hard sampling.

    Args:
        context: the run.
        stats: statistics of N tasks.
        active_NK: the component lanes that they stand in.
        version: the policy version that they are weighed at.
        pace: of the parts; default: the context's.
        features_NF: features of the tasks; None if the weigher reads none.
    """
    weigher = context.curriculum.weigher
    if pace is not None and isinstance(weigher, Paced):
        weigher = weigher.at(pace["weigher"])
    if features_NF is not None and isinstance(weigher, Seeing):
        weigher = weigher.seeing(features_NF)
    weights_NK = weigher.weights(stats, active_NK, version=version)
    micro_NK = np.minimum(micro(weights_NK), _MAX_MICRO)
    uniform_N1 = np.full((len(micro_NK), 1), UNIFORM_MICRO, dtype=np.int64)
    weights_NL = np.concatenate([uniform_N1, micro_NK], axis=1)
    hard = context.curriculum.hard
    if hard is None:
        return weights_NL
    paced = hard.at((context.state().pace if pace is None else pace)["hard"])
    return paced.lanes(weights_NL, stats.x_NE)


def pack_records(entries_N: Ints, weights_NL: Ints) -> list[bytes]:
    """Entry number and lane weights of each task, as the scripts unpack them (`<I4...`)."""
    table = np.concatenate([entries_N[:, None], weights_NL], axis=1).astype("<u4")
    width = table.shape[1] * 4
    whole = table.tobytes()
    return [whole[i * width : (i + 1) * width] for i in range(len(table))]


def unpack_records(records: Sequence[bytes]) -> tuple[Ints, Ints]:
    """The inverse of `pack_records`: entries [N] and weights [N, L]."""
    table = np.frombuffer(b"".join(records), dtype="<u4").reshape(len(records), -1)
    return table[:, 0].astype(np.int64), table[:, 1:].astype(np.int64)


def draws(context: RunContext, ordinals_N: Ints, entries_N: Ints) -> Floats:
    """[N, L] exponential draws of these entries."""
    return exponentials(
        context.row.spec.seed,
        ordinals_N=ordinals_N,
        entries_N=entries_N,
        lane_keys_L=context.lane_keys,
    )


def enter(
    context: RunContext,
    ordinals: Sequence[int],
    entries: Sequence[int],
    weights_NL: Ints,
) -> list[Entering]:
    """Each task's next stay in its lanes, without a group."""
    ordinals_N = np.array(ordinals, dtype=np.int64)
    entries_N = np.array(entries, dtype=np.int64)
    records = pack_records(entries_N, weights_NL)
    packed = draws(context, ordinals_N, entries_N).astype("<f8").tobytes()
    width = weights_NL.shape[1] * 8
    return [
        Entering(ordinal, records[i], packed[i * width : (i + 1) * width])
        for i, ordinal in enumerate(ordinals)
    ]
