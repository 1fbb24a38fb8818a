"""The races: draw, lease, settle, the ready queue. One implementation, in `store/redis`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .activity import Activities
from .allotments import Allotments, Allots
from .bank import BankRule, Banks, TakenGroup
from .beats import Beat, BeatRequest
from .decisions import LoggedDecision
from .loading import Loads
from .marker import Marker
from .moves import Moves
from .pools import Pools

READY_SCALE = 2**31
"""A ready score is `oldest version * READY_SCALE + apply sequence mod READY_SCALE`."""


class EpochMismatch(Exception):
    """Redis does not hold this run at the epoch that the caller expects."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """How one task was drawn."""

    ordinal: int
    entry: int
    """Number of the stay in the lanes that the draw ended."""
    lane: int
    """Index of the lane whose slot it took; 0 is `uniform`."""
    weight_micro: int
    slot_probability: float


@dataclass(frozen=True, slots=True)
class Announced:
    """The policy version as Redis knows it."""

    version: int
    weights_uri: str | None
    component_weights_json: str


@dataclass(frozen=True, slots=True)
class PromptLease:
    """A live prompt lease with its tasks."""

    lease_id: str
    fence: int
    deadline_ms: int
    ttl_ms: int
    announced: Announced
    num_waiting: int
    """Tasks waiting in `uniform` when the lease was drawn."""
    drawn: tuple[Drawn, ...]
    replayed: bool = False
    num_to_keep: int = 0
    """Tasks of a pool that are still to be chosen; 0 once they are, and without a pool."""
    num_kept: int | None = None
    """Tasks that a pool's choice kept; None without one."""
    allotted: Allotments | None = None
    """What the tasks get; None before the budget has decided, and without one."""


ShortReason = Literal["paused", "worker_limit", "empty", "full"]


@dataclass(frozen=True, slots=True)
class NoTasks:
    """Why a draw leased nothing."""

    reason: ShortReason
    announced: Announced


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """Arguments of a draw."""

    num_tasks: int
    lease_id: str
    worker: str
    ttl_ms: int
    idempotency_key: str
    body_hash: str
    factor: float = 0.0
    """Candidates of a pool per task; 0 without one."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Proof that a lease is held, with how the named tasks were drawn (None: not in it)."""

    deadline_ms: int
    ttl_ms: int
    component_weights_json: str
    version: int
    num_waiting: int
    num_remaining: int
    drawn: tuple[Drawn | None, ...]
    allotted: Allotments | None = None
    """What the lease's tasks were to get; None without a budget."""


@dataclass(frozen=True, slots=True)
class Entering:
    """One task on its way back into the lanes."""

    ordinal: int
    record: bytes
    """Entry number and one weight a lane, packed (`leasing.lanes`)."""
    exponentials: bytes
    """One float64 Exp(1) draw a lane."""
    ready_score: str = ""
    """Place in the ready queue if its group is admitted with trajectories."""
    manifest: bytes = b""
    note: bytes = b""
    """For the run's bank (`ports.bank.pack_note`); empty without one, or without a group."""


@dataclass(frozen=True, slots=True)
class TrainingLease:
    """A live training lease."""

    lease_id: str
    fence: int
    deadline_ms: int
    ttl_ms: int
    version: int
    num_groups_drawn: int
    short: bool
    groups: tuple[TakenGroup, ...]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class NoGroups:
    """No training batch yet (`wait`), or nothing informative within the refill limit."""

    reason: Literal["wait", "exhausted"]
    version: int
    num_groups_drawn: int


@dataclass(frozen=True, slots=True)
class TakeRequest:
    """Arguments of a training lease."""

    num_groups: int
    refill_limit: int
    lease_id: str
    ttl_ms: int
    idempotency_key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class RaceLimits:
    """The part of a run's limits that Redis enforces."""

    revision: int
    paused: bool
    cap: int
    worker_cap: int
    max_staleness: int
    cargo_bytes: int


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane now."""

    share: float
    credit: float
    clock: float
    total_weight: float
    num_waiting: int


@dataclass(frozen=True, slots=True)
class RaceState:
    """Counters and lanes of a run, read in one go."""

    lanes: tuple[LaneState, ...]
    counters: Mapping[str, int]
    num_prompt_leases: int
    num_training_leases: int
    num_banked: int = 0
    """Groups in the bank."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """Names a run's state in Redis at one epoch."""

    run_id: str
    epoch: int
    num_lanes: int


LeaseEnd = Literal["gone", "superseded"]


class Races(Loads, Pools, Moves, Allots, Banks, Activities, Protocol):
    """Atomic steps on a run's hot state. All raise `EpochMismatch` and `DependencyUnavailable`."""

    async def draw(self, run: RunKey, request: DrawRequest) -> PromptLease | NoTasks:
        """Draw and lease. Raises `IdempotencyKeyReused`."""

    async def pin(
        self, run: RunKey, lease_id: str, fence: int, *, ttl_ms: int, ordinals: Sequence[int]
    ) -> Pinned | LeaseEnd:
        """Prove a prompt lease and move its deadline."""

    async def pin_training(
        self, run: RunKey, lease_id: str, fence: int, *, ttl_ms: int
    ) -> Pinned | LeaseEnd:
        """Prove a training lease and move its deadline."""

    async def beat(self, run: RunKey, request: BeatRequest) -> Beat | LeaseEnd:
        """Move a lease's deadline; a repeated key gets the same. Raises `IdempotencyKeyReused`."""

    async def stage(self, run: RunKey, group_id: str, body: bytes) -> bool:
        """Keep a group's trajectories; False without room, or if its task has left the lease."""

    async def seal_lease(
        self, run: RunKey, lease_id: str, fence: int | None
    ) -> int | LeaseEnd | Literal["live"]:
        """Let no report or heartbeat of a prompt lease pass any more: the fence to settle it by."""

    async def settle(
        self, run: RunKey, lease_id: str, fence: int | None, *, kind: str, items: Sequence[Entering]
    ) -> tuple[int, int] | LeaseEnd | Literal["live"]:
        """Take tasks out of a lease into their lanes: (settled, remaining)."""

    async def take(self, run: RunKey, request: TakeRequest) -> TrainingLease | NoGroups:
        """Lease ready groups. Raises `IdempotencyKeyReused`."""

    async def untake(
        self,
        run: RunKey,
        lease_id: str,
        fence: int | None,
        *,
        kind: str,
        bank: BankRule | None = None,
    ) -> tuple[int, int] | LeaseEnd | Literal["live"]:
        """End a training lease: (groups, dropped); a bank takes what was trained on."""

    async def bodies(self, run: RunKey, group_ids: Sequence[str]) -> list[bytes]:
        """Trajectories of groups."""

    async def announce(self, run: RunKey, announced: Announced, *, shares: Sequence[float]) -> int:
        """Push a policy version; number of groups purged."""

    async def configure(self, run: RunKey, limits: RaceLimits) -> int:
        """Push limits and pause state, unless older; number of groups evicted."""

    async def reweigh(self, run: RunKey, items: Sequence[tuple[int, bytes]]) -> int:
        """Re-weigh waiting tasks whose entry number is unchanged."""

    async def rebase(self, run: RunKey, lane: int) -> bool:
        """Subtract a lane's clock from its arrival times."""

    async def entries(self, run: RunKey, ordinals: Sequence[int]) -> list[bytes | None]:
        """Packed records of tasks."""

    async def is_waiting(self, run: RunKey, ordinal: int) -> bool:
        """Whether a task stands in its lanes."""

    async def expired(self, run: RunKey) -> tuple[list[str], list[str]]:
        """Prompt and training leases whose deadline has passed."""

    async def state(self, run: RunKey) -> RaceState:
        """Counters and lanes."""

    async def markers(self, run_ids: Sequence[str]) -> list[Marker | None]:
        """What Redis holds of each run; None if nothing."""

    async def read_log(self, run: RunKey, count: int) -> list[LoggedDecision]:
        """Oldest decisions not yet drained."""

    async def trim_log(self, run: RunKey, last: str) -> None:
        """Forget decisions up to and including `last`."""

    async def ping(self) -> str:
        """Server name and version; for readiness."""

    def bells(self) -> AsyncIterator[str]:
        """Run ids whose slots or queues changed, as they change."""
