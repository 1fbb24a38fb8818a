"""The flow on one page: which step answers which call, and what the steps stand on.

| call | step |
|---|---|
| import, create a run | `datasets`, `runs` (creating a run loads its lanes: `rebuilder`) |
| draw and lease, heartbeat, release | `prompts` |
| report | `reports`: pin, stage, commit, settle |
| training batch, ack, announce | `training`, `versions` |
| checkpoint, restore, fork | `travel` |
| delete; drop what is no longer kept | `retention` |
| look | `views`, `task_views`, `looks`: `series_views`, `exploring`, `activity`, `distributions` |
| every call | `callers` (whose key), `rates` (how often); `keys` |
| meanwhile | `background`: bells, expiry, guard, drain |
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ports.catalog import Catalog
from ..ports.checkpoints import Checkpoints
from ..ports.keys import Keys, Throttle
from ..ports.ledger import Ledger
from ..ports.races import Races
from ..ports.retention import Keeper
from .activity import ActivityViews
from .background import Background
from .bells import Bells
from .callers import Callers
from .context import RunContexts, TaskCache
from .distributions import DistributionViews
from .exploring import Explorer
from .keys import KeyDesk
from .prompts import PromptBatches
from .rates import Rates
from .rebuild import Rebuilder
from .reports import Reports
from .retention import Removals, Sweeper
from .runs import Datasets, Runs
from .series_views import SeriesViews
from .steps import Ground
from .task_views import TaskViews
from .training import TrainingBatches
from .travel import TimeTravel
from .versions import Versions
from .views import CurriculumViews


@dataclass(frozen=True, slots=True)
class Access:
    """What callers are known and bounded by."""

    keys: Keys
    throttle: Throttle
    configured: tuple[bytes, ...]
    """Digests of the configured keys."""
    rate_per_s: float
    rate_burst: int


@dataclass(frozen=True, slots=True)
class Looks:
    """What the dashboard reads beside `views` and `task_views`."""

    series: SeriesViews
    explorer: Explorer
    activity: ActivityViews
    distributions: DistributionViews


@dataclass(frozen=True, slots=True)
class Sampler:
    """Every step, wired."""

    ground: Ground
    callers: Callers
    rates: Rates
    keys: KeyDesk
    datasets: Datasets
    runs: Runs
    prompts: PromptBatches
    reports: Reports
    training: TrainingBatches
    versions: Versions
    rebuilder: Rebuilder
    views: CurriculumViews
    task_views: TaskViews
    looks: Looks
    travel: TimeTravel
    sweeper: Sweeper
    removals: Removals
    background: Background


def make_sampler(
    *,
    catalog: Catalog,
    checkpoints: Checkpoints,
    ledger: Ledger,
    keeper: Keeper,
    races: Races,
    heartbeat_races: Races,
    access: Access,
    task_cache_bytes: int,
    commit_timeout_s: float,
) -> Sampler:
    """Wire the steps on their ports."""
    late: list[Background] = []
    ground = Ground(
        catalog=catalog,
        ledger=ledger,
        races=races,
        heartbeat_races=heartbeat_races,
        contexts=RunContexts(catalog),
        tasks=TaskCache(catalog, max_bytes=task_cache_bytes),
        bells=Bells(),
        request_rebuild=lambda run_id: late[0].request_rebuild(run_id),
        commit_timeout_s=commit_timeout_s,
    )
    callers = Callers(access.keys, access.configured)
    rebuilder = Rebuilder(ground)
    versions = Versions(ground)
    prompts = PromptBatches(ground)
    training = TrainingBatches(ground, versions)
    runs = Runs(ground, rebuilder)
    sweeper = Sweeper(ground, keeper)
    background = Background(
        ground,
        prompts=prompts,
        training=training,
        versions=versions,
        rebuilder=rebuilder,
        push=runs.push,
        sweep=sweeper.turn,
    )
    late.append(background)
    return Sampler(
        ground=ground,
        callers=callers,
        rates=Rates(access.throttle, per_s=access.rate_per_s, burst=access.rate_burst),
        keys=KeyDesk(access.keys, callers),
        datasets=Datasets(ground),
        runs=runs,
        prompts=prompts,
        reports=Reports(ground),
        training=training,
        versions=versions,
        rebuilder=rebuilder,
        views=CurriculumViews(ground),
        task_views=TaskViews(ground),
        looks=Looks(
            SeriesViews(ground), Explorer(ground), ActivityViews(ground), DistributionViews(ground)
        ),
        travel=TimeTravel(ground, checkpoints, rebuilder),
        sweeper=sweeper,
        removals=Removals(ground, keeper),
        background=background,
    )
