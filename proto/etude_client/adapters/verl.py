"""The curriculum in verl's trainer, by configuration alone.

    trainer.v1.sampler.custom_sampler.path=pkg://etude_client.adapters.verl
    trainer.v1.sampler.custom_sampler.name=CurriculumBuffer
    +trainer.v1.sampler.sampler_kwargs.run=my-run

The sampler chooses the prompts, every group is reported when it ends, before verl filters it, a
step of the trainer is a policy version, and a checkpoint's `data.pt` holds the curriculum of its
step. Written for verl 0.9; its asynchronous trainers take `AsyncCurriculumBuffer`. The parts,
outermost first: `verl` (verl's replay buffers) > `verl_trainer` (what follows a trainer) >
`verl_loader` (rows), `verl_settings` (keys, and what does not fit) > `verl_groups` (rewards).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from .verl_settings import WHERE, VerlSettings, check_config
from .verl_trainer import TRAIN, VerlCurriculum


class _Reporting:
    """What both of verl's buffers do with a curriculum: they sample, filter and refill as before.

    verl makes them, as `trainer.v1.sampler.custom_sampler` says, and passes what it passes.

    Args:
        sampler_kwargs: see `VerlSettings`.
        refill_fn: a method of the trainer, by which it is known.
        more: of verl's buffer.

    Raises:
        ValueError: a key makes no sense, or the trainer's settings do not fit.
    """

    def __init__(
        self,
        *,
        sampler_kwargs: Mapping[str, object],
        refill_fn: Callable[[int], int],
        **more: Any,  # noqa: ANN401 - verl's
    ) -> None:
        trainer = getattr(refill_fn, "__self__", None)
        if trainer is None:
            raise ValueError(f"{WHERE}: this verl does not say which trainer the buffer is of")
        keys = OmegaConf.to_container(OmegaConf.create(dict(sampler_kwargs)), resolve=True)
        assert isinstance(keys, dict)
        settings = VerlSettings.of({str(key): value for key, value in keys.items()})
        check_config(trainer.config, is_async=isinstance(self, ReplayBufferAsync))
        more |= _filtering(trainer)
        super().__init__(  # type: ignore[call-arg]  # verl's
            sampler_kwargs=sampler_kwargs, refill_fn=refill_fn, **more
        )
        self.follower = VerlCurriculum(trainer, settings)

    def _sync_metadata_from_transfer_queue(self) -> None:
        """verl's look at its queue, with which every round of waiting begins."""
        super()._sync_metadata_from_transfer_queue()  # type: ignore[misc]  # verl's
        buffer: Any = self
        ended = buffer.finished_keys[TRAIN] | buffer.failure_keys[TRAIN]
        self.follower.observe(ended, buffer.partitions[TRAIN])


class CurriculumBuffer(_Reporting, ReplayBuffer):  # type: ignore[misc]  # verl has no types
    """The buffer of verl's synchronous trainer, with a curriculum."""


class AsyncCurriculumBuffer(_Reporting, ReplayBufferAsync):  # type: ignore[misc]  # likewise
    """The buffer of verl's asynchronous trainers, with a curriculum."""


def _filtering(trainer: Any) -> dict[str, object]:  # noqa: ANN401 - verl's, without types
    """What verl tells a buffer of its own, and not one of the user's: how groups are filtered."""
    config = trainer.config
    metric = trainer._resolve_filter_groups_metric()
    refills_failed = bool(config.trainer.v1.sampler.get("sync_refill_failed_groups", False))
    groups = config.algorithm.get("filter_groups", None)
    num_prompts = config.data.train_batch_size
    is_exact = metric is not None or refills_failed
    return {
        "filter_groups_metric": metric,
        "sync_refill_failed_groups": refills_failed,
        "train_batch_size": num_prompts,
        "gen_batch_size": 1 if is_exact else config.data.get("gen_batch_size", None) or num_prompts,
        "max_inflight_gen_batches": groups.get("max_inflight_gen_batches", 1) if metric else 1,
    }
