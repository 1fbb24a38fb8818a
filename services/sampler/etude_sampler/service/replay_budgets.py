"""Rollouts per task, decided again along the ledger and compared with the log. For `replay`.

While a task is leased nobody else reports it, and its own report comes after the decision: the
statistics of the walk are those that the budget saw.
"""

from __future__ import annotations

import numpy as np

from ..ports.allotments import parse_allotments
from ..ports.decisions import LoggedDecision
from .allotting import decide
from .context import RunContext
from .replay_ledger import LedgerWalk
from .replay_log import Unreadable
from .replay_races import Differs, EpochRaces


def check_allotment(
    context: RunContext, walk: LedgerWalk, races: EpochRaces, decision: LoggedDecision
) -> None:
    """Ask the budget again.

    Raises:
        Differs: another number for a task, or other tasks.
        Unreadable: other words, or a run without a budget.
    """
    held = races.leases.get(decision.lease_id)
    if held is None or held.fence != decision.fence:
        raise Differs(f"budget of lease {decision.lease_id}, which is not live")
    if context.curriculum.budget is None:
        raise Unreadable("rollouts were allotted in a run without a budget")
    try:
        logged = parse_allotments(decision.tasks)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    ordinals = sorted(held.entries)
    if list(logged) != ordinals:
        raise Differs(f"rollouts of {len(logged)} tasks; {len(ordinals)} are in the lease")
    taken = {ordinal: held.taken[ordinal] for ordinal in ordinals}
    again = decide(context, taken, walk.stats.select(np.array(ordinals, dtype=np.int64)))
    for ordinal in ordinals:
        if logged[ordinal] != again[ordinal]:
            found, want = tuple(logged[ordinal]), tuple(again[ordinal])
            raise Differs(f"rollouts of task {ordinal}: the log has {found}, replay {want}")
