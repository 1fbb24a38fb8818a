"""What verl's configuration says of the curriculum, and what of verl's own settings does not fit.

`verl.py` reads `trainer.v1.sampler.sampler_kwargs` with it, `verl_trainer.py` asks it before
anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from etude_proto.v1 import CurriculumConfig, Run

from ..curriculum.options import OnOutage, Options
from .rewards import Scale
from .verl_groups import SCORE

TWO_PHASES = "speed"
"""The budget that looks at a few rollouts before it asks for more."""
WHERE = "trainer.v1.sampler.sampler_kwargs"


class VerlSettings(BaseModel):
    """The keys of `trainer.v1.sampler.sampler_kwargs`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(min_length=1)
    """Name of the run; made unless there is one."""
    url: str | None = None
    """Of a sampler; default `ETUDE_SAMPLER_URL`, or the port of `etude serve`."""
    local: str | None = None
    """Instead of a URL, a folder for a sampler that the trainer starts."""
    preset: str | CurriculumConfig = "dscl"
    """Name of a curriculum (`etude strategies` lists them), or its parts."""
    source: str | None = "data_source"
    """Column that says where a row came from; null: one source."""
    components: tuple[str, ...] = (SCORE,)
    """Keys of what the reward function returns that are sub-tasks; `score` is the reward."""
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By component, its lowest and highest value; default 0 and 1."""
    solved_at: float = 1.0 - 1e-6
    """A rollout is a success if all its components are at least this."""
    seed: int = 0
    """Of all draws."""
    on_outage: OnOutage = "wait"
    """`uniform` goes on with rows drawn uniformly while the sampler is away."""
    patience_s: float = Field(default=10.0, ge=0.0)
    """How long the sampler may be away before `on_outage` says what happens."""
    ttl_s: float | None = None
    """Time to live of leases between heartbeats; default: 600 s."""

    @classmethod
    def of(cls, keys: Mapping[str, object]) -> VerlSettings:
        """Those of a configuration.

        Raises:
            ValueError: a key is missing, unknown or makes no sense; it is named.
        """
        try:
            settings = cls.model_validate(keys)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in (WHERE, *first["loc"]))
            raise ValueError(f"{field}: {first['msg']}") from error
        if settings.url is not None and settings.local is not None:
            raise ValueError(f"{WHERE}: give url or local, not both")
        settings.scale()
        return settings

    def scale(self) -> Scale:
        """Components of rewards.

        Raises:
            ValueError: names or ranges make no sense.
        """
        return Scale(self.components, self.ranges, self.solved_at)

    def options(self) -> Options:
        """Those of `Curriculum`."""
        return Options(on_outage=self.on_outage, patience_s=self.patience_s, ttl_s=self.ttl_s)


def check_config(config: Any, *, is_async: bool) -> None:  # noqa: ANN401 - verl's, without types
    """Refuse settings of verl's that the curriculum cannot follow, before anything is made.

    Args:
        config: verl's.
        is_async: whether the buffer that is being made is an asynchronous one.

    Raises:
        ValueError: what to change is said.
    """
    mode = config.trainer.v1.trainer_mode
    if is_async != (mode != "sync"):
        wanted = "CurriculumBuffer" if mode == "sync" else "AsyncCurriculumBuffer"
        raise ValueError(
            f"trainer.v1.trainer_mode is {mode!r}: name {wanted} in trainer.v1.sampler."
            "custom_sampler.name"
        )
    model = config.reward.reward_model
    if model.enable and not model.enable_resource_pool:
        raise ValueError(
            "a colocated reward model scores after groups were chosen and filtered: give it a "
            "pool of its own, reward.reward_model.enable_resource_pool=True"
        )
    if config.skip.rollout_tq.enable:
        raise ValueError("skip.rollout_tq replays stored rollouts: there is nothing to report")


def num_in_flight(config: Any) -> int:  # noqa: ANN401 - verl's, without types
    """Most prompts that the trainer generates at a time."""
    num_prompts = int(config.data.train_batch_size)
    mode = config.trainer.v1.trainer_mode
    if mode != "sync":
        return num_prompts + math.ceil(
            num_prompts * float(config.trainer.v1[mode].num_warmup_batches)
        )
    groups = config.algorithm.get("filter_groups", None)
    if groups is not None and groups.get("enable", False):
        num_prompts *= int(groups.get("max_inflight_gen_batches", 1))
    return num_prompts


def check_fit(run: Run, *, group_size: int, num_prompts: int, num_tasks: int) -> None:
    """Refuse, before anything is trained, a run that the trainer cannot follow.

    Args:
        run: what is practised.
        group_size: verl's `actor_rollout_ref.rollout.n`.
        num_prompts: most that are generated at a time.
        num_tasks: different prompts in the trainer's data.

    Raises:
        ValueError: groups of another size, a budget in two phases, other tasks than the
            trainer's, too few of them, or a limit of leased ones below what verl holds.
    """
    if run.group_size != group_size:
        raise ValueError(
            f"the run makes groups of {run.group_size}, the trainer of {group_size} "
            "(actor_rollout_ref.rollout.n)"
        )
    if run.resolved.budget is not None and run.resolved.budget.name == TWO_PHASES:
        raise ValueError(
            f"the run's budget {TWO_PHASES!r} asks for rollouts in two phases, and verl makes them "
            "in one: choose another"
        )
    if run.num_tasks != num_tasks:
        raise ValueError(
            f"the run {run.name!r} has {run.num_tasks} tasks, data.train_files {num_tasks} "
            "different prompts: give another run's name (sampler_kwargs.run)"
        )
    if num_prompts > num_tasks:
        raise ValueError(
            f"{num_tasks} different prompts are too few for {num_prompts} at a time "
            "(data.train_batch_size, with what verl generates beside or ahead of a batch)"
        )
    most = min(run.num_tasks, run.limits.cap_in(run.mode))
    if num_prompts > most:
        raise ValueError(
            f"verl generates up to {num_prompts} prompts at a time (data.train_batch_size, with "
            f"what it generates beside or ahead of a batch), and the run leases {most} at most "
            "(its limit cap_groups)"
        )
