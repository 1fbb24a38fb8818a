"""A pool's choices, made again from the ledger and from what was read then. Used by `replay`.

Statistics of the candidates are those of the walk along the ledger: while a task is leased nobody
else reports it. Predictions and pass rates are the logged ones, for predictions have no history.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.curriculum import at_pace

from ..ports.decisions import LoggedDecision
from .choosing import Read, decide, unpack_reads
from .context import RunContext
from .replay_ledger import LedgerWalk
from .replay_log import Entered, Unreadable, logged_choice
from .replay_races import Differs, EpochRaces


async def check_choice(
    context: RunContext,
    walk: LedgerWalk,
    races: EpochRaces,
    decision: LoggedDecision,
    back: Entered,
) -> None:
    """Choose among a lease's candidates again and compare.

    Raises:
        Differs: another control arm, or other tasks went back.
        Unreadable: the log lacks something, or the run has no pool.
        LedgerIncomplete: the version of the choice was never folded.
    """
    held = races.leases.get(decision.lease_id)
    if held is None or held.fence != decision.fence:
        raise Differs(f"choose of lease {decision.lease_id}, which is not live")
    version = decision.policy_version or 0
    await walk.advance_to_version(version)
    pace = walk.pace_at(version)
    pool = None if pace is None else at_pace(context.curriculum, pace).pool
    if pool is None:
        raise Unreadable("a choice of a run without a pool, or before the run began")
    told = logged_choice(decision, back)
    ordinals_N = np.array(sorted(held.entries), dtype=np.int64)
    try:
        reads = unpack_reads(told.reads, pool, len(ordinals_N))
    except ValueError as error:
        raise Unreadable(f"what the pool read: {error}") from error
    read = Read(
        ordinals_N=ordinals_N,
        entries_N=np.array([held.entries[task] for task in ordinals_N.tolist()]),
        stats=walk.stats.select(ordinals_N),
        prediction_N=reads["prediction"],
        pass_rate_N=reads["pass_rate"],
        version=version,
    )
    num_kept = len(ordinals_N) - len(back.tasks_N)
    control_N, chosen_N = decide(context, pool, read, num_kept=num_kept, fence=decision.fence)
    _same("the control arm is", told.control, ordinals_N[control_N].tolist())
    _same("back went", back.tasks_N.tolist(), ordinals_N[~(control_N | chosen_N)].tolist())


def _same(what: str, found: list[int] | tuple[int, ...], want: list[int]) -> None:
    """Raise `Differs` for the first task that only one of the two has."""
    other = set(found) ^ set(want)
    if other:
        task = min(other)
        where = "in the log" if task in set(found) else "in replay"
        raise Differs(f"{what} task {task} only {where}")
