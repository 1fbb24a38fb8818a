"""Who of a pool's candidates is kept: pure, for the draw and for replay.

Chance comes from the generator of the races, keyed by seed, task and entry, so that every replica,
every retry and every replay chooses the same. Neighbours: `pooling` reads what is needed and does
it; `replay_pools` does it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum.candidates import SHUFFLE, Candidates, choose, num_control
from etude_sampler.curriculum.parts import Pool
from etude_sampler.leasing import lane_key, uniforms
from etude_sampler.statistics import Bools, Floats, Ints, TaskStatistics

from .context import RunContext

_POOL, _CONTROL, _SHARE = (lane_key(f"etude:pool:{name}") for name in ("value", "arm", "share"))


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What a choice among N candidates is made from, in the order of their ordinals."""

    ordinals_N: Ints
    entries_N: Ints
    stats: TaskStatistics
    prediction_N: Floats
    """Nan where there is none, or where the pool reads none."""
    pass_rate_N: Floats
    """Nan where there is none, or where the pool reads none."""
    version: int


def pack_reads(read: Read, pool: Pool) -> bytes:
    """What a pool read beside statistics, for replay: float64, column after column."""
    columns = {"prediction": read.prediction_N, "pass_rate": read.pass_rate_N}
    return b"".join(columns[name].astype("<f8").tobytes() for name in sorted(pool.reads))


def unpack_reads(packed: bytes, pool: Pool, num: int) -> dict[str, Floats]:
    """The inverse of `pack_reads` for `num` candidates; nan for what the pool does not read.

    Raises:
        ValueError: not as many numbers as the pool reads.
    """
    names = sorted(pool.reads)
    columns = np.frombuffer(packed, dtype="<f8").reshape(len(names), num)
    found = {"prediction": np.full(num, np.nan), "pass_rate": np.full(num, np.nan)}
    return {**found, **dict(zip(names, columns.astype(np.float64), strict=True))}


def candidates(context: RunContext, read: Read) -> Candidates:
    """As the parts see them."""

    def chance(number: int) -> Floats:
        return _chance(context, read, _POOL, number)

    return Candidates(read.stats, read.prediction_N, read.pass_rate_N, read.version, chance)


def decide(
    context: RunContext, pool: Pool, read: Read, *, num_kept: int, fence: int
) -> tuple[Bools, Bools]:
    """[N] masks of the control arm and of the chosen, `num_kept` together.

    Args:
        context: the run.
        pool: its pool, at its pace.
        read: the candidates.
        num_kept: tasks to keep.
        fence: the lease's; the size of the control arm is drawn by it.
    """
    found = candidates(context, read)
    share = uniforms(
        context.row.spec.seed,
        ordinals_N=np.array([fence & 0xFFFFFFFF]),
        entries_N=np.array([fence >> 32]),
        key=_SHARE,
    )
    return choose(
        pool.values(found),
        num_kept=num_kept,
        num_control=num_control(
            num_kept, share=context.curriculum.control_share, chance=float(share[0])
        ),
        shuffle_N=found.chance(SHUFFLE),
        control_N=_chance(context, read, _CONTROL, 1),
    )


def _chance(context: RunContext, read: Read, key: int, number: int) -> Floats:
    return uniforms(
        context.row.spec.seed,
        ordinals_N=read.ordinals_N,
        entries_N=read.entries_N,
        key=key,
        number=number,
    )
