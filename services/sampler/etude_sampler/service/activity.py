"""What a run is doing now, for people: ready queue, leases, workers, pace. Reading changes nothing.

Neighbours: `views` has the counts, `watching` the same for metrics.
"""

from __future__ import annotations

from typing import Final

from etude_proto.v1 import Activity, DecisionTotals, LeaseView, ReadyAge, WorkerView

from ..ports.activity import Goings, LiveLease
from .context import RunContext
from .runs import iso
from .steps import Ground

MOST_SHOWN: Final = 200
"""Leases of a kind, and workers, that are shown (our choice)."""
NEWEST_DECISIONS: Final = 2_000
NEWEST_VERSIONS: Final = 20


class ActivityViews:
    """What goes on in a run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def activity(self, run_id: str) -> Activity:
        """Raises `RunNotFound`; `Rebuilding` where Redis does not hold the run."""
        ground = self._ground

        async def hot(context: RunContext) -> tuple[RunContext, Goings]:
            goings = await ground.races.goings(
                context.key, max_staleness=context.limits.max_staleness, most=MOST_SHOWN
            )
            return context, goings

        context, goings = await ground.on_run(run_id, hot)
        decisions = await ground.ledger.newest_decisions(run_id, newest=NEWEST_DECISIONS)
        times = await ground.ledger.version_times(run_id, newest=NEWEST_VERSIONS)
        num = decisions.num
        return Activity(
            run_id=run_id,
            policy_version=goings.version,
            cap_groups=context.limits.cap,
            max_staleness=context.limits.max_staleness,
            ready=[ReadyAge(staleness=age, num_groups=count) for age, count in goings.ready],
            leases=[_lease(one) for one in goings.leases],
            num_leases=goings.num_leases,
            workers=_workers(goings),
            num_workers=goings.num_workers,
            decisions=DecisionTotals(
                num_decisions=sum(num.values()),
                since_ms=decisions.since_ms,
                until_ms=decisions.until_ms,
                num_draws=num.get("draw", 0),
                num_reports=num.get("report", 0),
                num_releases=num.get("release", 0),
                num_expiries=num.get("expire", 0),
            ),
            version_times=[iso(at) for at in times],
        )


def _lease(one: LiveLease) -> LeaseView:
    return LeaseView(
        id=one.lease_id,
        kind=one.kind,
        worker=one.worker,
        policy_version=one.version,
        num_left=one.num_left,
        ttl_ms=one.ttl_ms,
        remaining_ms=one.remaining_ms,
        is_extended=one.is_extended,
    )


def _workers(goings: Goings) -> list[WorkerView]:
    found = []
    for name, num_leases in goings.workers:
        mine = [one for one in goings.leases if one.worker == name]
        found.append(
            WorkerView(
                worker=name,
                num_leases=num_leases,
                num_left=sum(one.num_left for one in mine),
                policy_version=max((one.version for one in mine), default=None),
            )
        )
    return found
