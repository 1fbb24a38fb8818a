"""The trainer as a service: builds the loop from settings and runs it in a thread.

Started and stopped by the app's lifespan (`app.py`); the only place where settings, configuration,
model, client and folders meet.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from etude_client import EtudeClient
from etude_client.json_logs import about
from etude_proto.v1 import Run, TrainingBatchRequest

from .agreement import tell_differences
from .charts import Chart, check_wandb, opened
from .checkpoint import CheckpointStore
from .checks import can_share_prompts, check_head, settle_attention
from .config import TrainingConfig
from .errors import ConfigError, RankLost, StateInUse, Stopped, TrainerError
from .journal import Journal
from .loop import Trainer
from .lora import LoraPolicy, LoraReference
from .model import Policy, load_policy, pick_device
from .parallel.crew import ALONE, Crew
from .parallel.sharding import make_mesh, shard
from .parallel.team import Team
from .runs import await_run, check_credit
from .settings import Settings
from .stages.account import Account
from .stages.fetch import LeaseNote
from .stages.learn import Learner, make_optimizer
from .stages.record import Recorder
from .stages.save import DTYPES
from .stages.settle import Site
from .stages.supply import Ahead, Supply
from .status import Stage, StatusBoard
from .stop import StopSignal
from .validation import validation_of
from .weights.disk import DiskChannel
from .weights.sending import make_sender

logger = logging.getLogger(__name__)

SPARE_VERSIONS: Final = 2
"""Published versions kept beyond the staleness bound: the newest, and one being loaded."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, as the command line says it."""

    run: str
    model_dir: Path
    max_steps: int | None = None


class TrainerService:
    """A loop in a thread, with its board."""

    def __init__(
        self,
        settings: Settings,
        config: TrainingConfig,
        *,
        job: Job,
        crew: Crew = ALONE,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing happens before `start`; `on_end` is called from the loop's thread.

        Of a crew only the leader has a service.
        """
        self.board = StatusBoard()
        self.error: TrainerError | Exception | None = None
        """Why the loop failed."""
        self._settings = settings
        self._config = config
        self._job = job
        self._crew = crew
        self._on_end = on_end
        self.sender = make_sender(settings)
        """Sends weights from process to process; null where they are read from the volume."""
        self._stop = StopSignal()
        self._thread = threading.Thread(target=self._main, name="trainer")

    @property
    def transfer_key(self) -> str | None:
        """What workers must send to be given weights."""
        key = self._settings.transfer_key
        return None if key is None else key.get_secret_value()

    @property
    def api_key(self) -> str | None:
        """The deployment's key, where one is set."""
        key = self._settings.api_key
        return None if key is None else key.get_secret_value()

    @property
    def is_alive(self) -> bool:
        """Whether the loop's thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the loop to end and wait: it leaves a step between passes and gives its lease back,
        or finishes the checkpoint and ack that it has begun."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self._work()
        except Stopped:
            self.board.enter(Stage.STOPPED)
        except Exception as error:
            self.error = error
            self.board.enter(Stage.FAILED, detail=str(error))
            expected = isinstance(error, TrainerError)
            logger.error("trainer.failed", exc_info=not expected, extra={"error": str(error)})
        else:
            self.board.enter(Stage.STOPPED)
        finally:
            if self.sender is not None:
                self.sender.close()
            self._on_end()

    def _work(self) -> None:
        settings, config, job = self._settings, self._config, self._job
        check_wandb(settings.trainer_wandb)
        team = build_team(settings, config, model_dir=job.model_dir, crew=self._crew)
        learner = team.learner
        with dismissing(team), EtudeClient(settings.sampler_url, api_key=self.api_key) as client:
            run = await_run(client, job.run, board=self.board, stop=self._stop)
            check_credit(run, config.advantage)
            tell_differences(run, config)
            folder = settings.trainer_dir / run.id
            with exclusive(folder):
                site = self._site(client, run, folder)
                site.store.open()
                site.channel.open()
                if self.sender is not None:
                    place = learner.policy.device
                    self.sender.open(settings.weights_root.resolve() / run.id, place)
                team.profile(folder / "profiles")
                charting = opened(folder, run=run, wandb=settings.trainer_wandb)
                with about(run=run.id), charting as charts:
                    self._trainer(site, team, run, charts).run()

    def _trainer(self, site: Site, team: Team, run: Run, charts: list[Chart]) -> Trainer:
        folder, policy = self._settings.trainer_dir / run.id, team.learner.policy
        note = LeaseNote(folder / "lease.json")
        overlaps = self._config.overlap.enabled and run.limits.max_staleness > 0
        if self._config.overlap.enabled and not overlaps:
            logger.warning("overlap.off", extra={"reason": "the run's max_staleness is 0"})
        ahead = Ahead(num_versions=int(overlaps), max_staleness=run.limits.max_staleness)
        request, size = self._request(run), policy.vocab_size
        return Trainer(
            site=site,
            team=team,
            supply=Supply(site, note, request, vocab_size=size, ahead=ahead),
            account=Account(policy.device, self._crew.size),
            record=Recorder(
                site=site,
                note=note,
                journal=Journal(folder / "metrics.jsonl"),
                charts=charts,
                keep_checkpoints=self._config.publish.keep_checkpoints,
            ),
            max_steps=self._job.max_steps,
            overlaps=overlaps,
        )

    def _site(self, client: EtudeClient, run: Run, folder: Path) -> Site:
        channel = DiskChannel(
            self._settings.weights_root / run.id,
            model_dir=self._job.model_dir,
            dtype=DTYPES[self._config.publish.dtype],
            keep_versions=run.limits.max_staleness + SPARE_VERSIONS,
            lora=self._config.lora,
        )
        return Site(
            client=client,
            run_id=run.id,
            store=CheckpointStore(folder / "checkpoints"),
            channel=channel,
            board=self.board,
            stop=self._stop,
            model_dir=self._job.model_dir,
            weights_root=self._settings.weights_root,
            validation=validation_of(run, self._config, self._settings.validation_dir, folder),
        )

    def _request(self, run: Run) -> TrainingBatchRequest:
        batch = self._config.batch
        return TrainingBatchRequest(
            trainer=self._settings.name(),
            num_groups=batch.num_groups or run.limits.training_batch_groups,
            wait_s=batch.wait_s,
            ttl_s=batch.lease_ttl_s,
        )


def build_team(settings: Settings, config: TrainingConfig, *, model_dir: Path, crew: Crew) -> Team:
    """This rank's learner. Raises as `build_learner`."""
    if settings.trainer_threads:
        torch.set_num_threads(settings.trainer_threads)
    return Team(build_learner(model_dir, config, device=settings.trainer_device, crew=crew))


def follow(settings: Settings, config: TrainingConfig, *, model_dir: Path, crew: Crew) -> None:
    """Be a rank that follows, until the leader ends. Raises as `build_learner`, `Team.follow`."""
    build_team(settings, config, model_dir=model_dir, crew=crew).follow()


@contextmanager
def dismissing(team: Team) -> Iterator[None]:
    """Send the other ranks home at the end, however it comes."""
    try:
        yield
    finally:
        try:
            team.dismiss()
        except RankLost as error:
            logger.warning("rank.lost", extra={"error": str(error)})


def build_learner(
    model_dir: Path, config: TrainingConfig, *, device: str, crew: Crew = ALONE
) -> Learner:
    """The model with its optimizer, checked for what the trainer relies on.

    Among several ranks the model is loaded and checked on the host, then split. Raises as
    `load_policy`, `pick_device`, `checks.py`, `LoraPolicy`, `make_mesh`, `shard`.
    """
    place = pick_device(device)
    load_place = place if crew.is_alone else torch.device("cpu")
    policy = load_policy(model_dir, config.model, load_place)
    check_head(policy, temperature=config.model.temperature)
    settle_attention(policy, required=config.model.attention == "lines")
    shares = config.batch.share_prompts and can_share_prompts(policy)
    if config.batch.share_prompts and not shares:
        logger.warning("prompts.not_shared", extra={"model": type(policy.module).__name__})
    if config.lora.rank:
        policy = LoraPolicy(policy, config.lora)
    mesh = None if crew.is_alone else make_mesh(crew, config.parallel, place)
    if mesh is not None:
        shard(policy, mesh, config.parallel)
    reference: Policy | None = None
    if config.needs_reference and isinstance(policy, LoraPolicy):
        reference = LoraReference(policy)
    elif config.needs_reference:
        reference = load_policy(model_dir, config.model, load_place)
        reference.module.requires_grad_(False)
    if mesh is not None and reference is not None and not reference.is_adapter:
        shard(reference, mesh, config.parallel)
    return Learner(
        policy=policy,
        optimizer=make_optimizer(policy, config),
        reference=reference,
        config=config,
        shares_prompts=shares,
        model_dir=model_dir,
        crew=crew,
    )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a run's state directory; the system lets go of it when the process dies.

    Raises:
        StateInUse: another process holds it.
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"trainer_dir: {folder} cannot be used: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateInUse(f"another trainer works in {folder}") from error
        yield
