"""The curriculum in verl's trainer, by configuration alone.

    trainer.v1.sampler.custom_sampler.path=pkg://etude_client.adapters.verl
    trainer.v1.sampler.custom_sampler.name=CurriculumBuffer
    +trainer.v1.sampler.sampler_kwargs.run=my-run

The sampler chooses the prompts, every group is reported when it ends, before verl filters it, a
step of the trainer is a policy version, and a checkpoint's `data.pt` holds the curriculum of its
step. Written for verl 0.9 and its synchronous trainer. The parts, outermost first: `verl` (verl's
replay buffer) > `verl_trainer` (what follows a trainer) > `verl_loader` (rows), `verl_settings`
(keys, and what does not fit) > `verl_groups` (rewards).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from .verl_settings import WHERE, VerlSettings
from .verl_trainer import TRAIN, VerlCurriculum


class CurriculumBuffer(ReplayBuffer):  # type: ignore[misc]  # verl has no types
    """verl's replay buffer; it samples, filters and refills as verl's own.

    verl makes it, as `trainer.v1.sampler.custom_sampler` says, and passes what it passes.

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
        super().__init__(
            sampler_kwargs=sampler_kwargs, refill_fn=refill_fn, **_filtering(trainer), **more
        )
        self.follower = VerlCurriculum(trainer, settings)

    def _sync_metadata_from_transfer_queue(self) -> None:
        """verl's look at its queue, with which every round of waiting begins."""
        super()._sync_metadata_from_transfer_queue()
        ended = self.finished_keys[TRAIN] | self.failure_keys[TRAIN]
        self.follower.observe(ended, self.partitions[TRAIN])


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
