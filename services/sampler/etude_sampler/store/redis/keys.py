"""Every key name, in one place. A run's keys share the hash tag `{run}`: one cluster slot.

| key | type | holds | lives |
|---|---|---|---|
| `etude:{run}:meta` | hash | epoch on its server, counters, limits, clocks, credits, totals | run |
| `etude:{run}:tasks` | hash | ordinal -> packed entry number and lane weights | run |
| `etude:{run}:lane:I` | zset | ordinal by arrival time, one per lane | run |
| `etude:{run}:leases`, `:tleases` | zset | lease id by deadline (ms) | run |
| `etude:{run}:lease:ID`, `:lt:ID` | hash | a lease; its tasks, or groups | lease |
| `etude:{run}:idem` | hash | idempotency key -> lease id and body hash | lease |
| `etude:{run}:workers` | hash | live leases per worker | run |
| `etude:{run}:ready` | zset | group id by (oldest version, apply sequence) | run |
| `etude:{run}:groups`, `:cargo` | hash | group id -> manifest entry, trajectories | until used |
| `etude:{run}:bank` | zset | group id by rank: trained on, may be replayed | run |
| `etude:{run}:banked` | hash | ordinal -> priority, replays, place, id of what is banked | run |
| `etude:{run}:loading` | hash | who rebuilds the run, how far it is | rebuild |
| `etude:{key}:bucket` | hash | calls that an API key has left; of no run | until it is full |
| `etude:{run}:log` | stream | decisions not yet drained to PostgreSQL | bounded |
"""

from __future__ import annotations

from dataclasses import dataclass

BELL_PATTERN = "etude:*:bell"


def bucket(name: str) -> str:
    """Calls that an API key has left; of no run."""
    return f"etude:{{{name}}}:bucket"


def bell(run_id: str) -> str:
    """Channel rung when slots or queues of a run change."""
    return f"etude:{{{run_id}}}:bell"


def every_key(run_id: str) -> str:
    """Matches every key of a run, and no other."""
    return f"etude:{{{run_id}}}:*"


def run_of_bell(channel: str) -> str:
    """The run id in a bell's channel name."""
    return channel[channel.index("{") + 1 : channel.index("}")]


@dataclass(frozen=True, slots=True)
class RunKeys:
    """Key names of one run."""

    run_id: str

    def _key(self, tail: str) -> str:
        return f"etude:{{{self.run_id}}}:{tail}"

    @property
    def meta(self) -> str:
        """Counters, limits, clocks."""
        return self._key("meta")

    @property
    def tasks(self) -> str:
        """Packed records."""
        return self._key("tasks")

    @property
    def leases(self) -> str:
        """Prompt leases by deadline."""
        return self._key("leases")

    @property
    def training_leases(self) -> str:
        """Training leases by deadline."""
        return self._key("tleases")

    @property
    def idem(self) -> str:
        """Idempotency keys of live leases."""
        return self._key("idem")

    @property
    def workers(self) -> str:
        """Live leases per worker."""
        return self._key("workers")

    @property
    def ready(self) -> str:
        """The ready queue."""
        return self._key("ready")

    @property
    def groups(self) -> str:
        """Manifest entries of groups."""
        return self._key("groups")

    @property
    def cargo(self) -> str:
        """Trajectories of groups."""
        return self._key("cargo")

    @property
    def bank(self) -> str:
        """Groups that may be replayed, the greatest last."""
        return self._key("bank")

    @property
    def banked(self) -> str:
        """What is banked of each task."""
        return self._key("banked")

    @property
    def log(self) -> str:
        """The decision log."""
        return self._key("log")

    @property
    def loading(self) -> str:
        """The rebuild under way."""
        return self._key("loading")

    @property
    def bell(self) -> str:
        """The run's channel."""
        return bell(self.run_id)

    def lane(self, index: int) -> str:
        """One lane's race."""
        return self._key(f"lane:{index}")

    def lanes(self, num_lanes: int) -> list[str]:
        """All lanes, `uniform` first."""
        return [self.lane(index) for index in range(num_lanes)]

    def lease(self, lease_id: str) -> str:
        """One lease, of either kind."""
        return self._key(f"lease:{lease_id}")

    def lease_tasks(self, lease_id: str) -> str:
        """Tasks of a prompt lease, or groups of a training lease."""
        return self._key(f"lt:{lease_id}")
