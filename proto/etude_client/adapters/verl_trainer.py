"""The curriculum at work in one of verl's trainers: what is replaced, and what is reported when.

`verl.py` makes one where verl makes its replay buffer, before data or workers exist. It replaces
three methods of that one trainer object: `_init_dataloader` (the train loader becomes
`verl_loader.py`'s), `_next_train_batch` (which prompt is which task) and `on_step_end` (a step is a
policy version).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import transfer_queue

from ..curriculum import Curriculum, Rollout
from ..curriculum.batch import Batch
from .verl_groups import Trajectory, rollouts_of
from .verl_loader import CurriculumLoader, Drawn, tasks_in
from .verl_settings import VerlSettings, check_fit, num_in_flight

logger = logging.getLogger("etude_client")

FIELDS = ["rm_scores", "response_mask", "extra_fields", "num_turns"]
"""Of a trajectory in verl's queue; read once, when its group has ended."""
TRAIN = "train"
LAST_WORDS_S = 60.0
"""How long the end of training waits for what is not delivered (our choice)."""


class VerlCurriculum:
    """A curriculum at work in a trainer.

    Args:
        trainer: verl's `PPOTrainer`, being made.
        settings: of the curriculum.
    """

    def __init__(self, trainer: Any, settings: VerlSettings) -> None:  # noqa: ANN401 - no types
        self._trainer = trainer
        self._settings = settings
        self._scale = settings.scale()
        self._curriculum: Curriculum | None = None
        self._loader: CurriculumLoader | None = None
        self._open: dict[str, Drawn] = {}
        self._has_begun = False
        self._theirs = {
            name: getattr(trainer, name)
            for name in ("_init_dataloader", "_next_train_batch", "on_step_end")
        }
        trainer._init_dataloader = self._init_dataloader
        trainer._next_train_batch = self._next_train_batch
        trainer.on_step_end = self._on_step_end

    @property
    def curriculum(self) -> Curriculum:
        """Once the trainer's data are there.

        Raises:
            RuntimeError: they are not.
        """
        if self._curriculum is None:
            raise RuntimeError("the trainer has no data yet")
        return self._curriculum

    def observe(self, ended: Iterable[str], keys: Mapping[str, object]) -> None:
        """Report the groups that ended since the last look, before anything filters them.

        Args:
            ended: names of prompts whose rollouts are all over, well or not.
            keys: names of the trajectories that are in verl's queue.
        """
        new = set(ended) & self._open.keys()
        if not new:
            return
        made: dict[str, list[Trajectory]] = defaultdict(list)
        for one in self._trajectories([key for key in keys if _prompt(key) in new]):
            made[_prompt(one.key)].append(one)
        max_tokens = int(self._trainer.config.data.max_response_length)
        reports: dict[int, tuple[Batch, dict[str, list[Rollout]]]] = {}
        for name in sorted(new):
            drawn = self._open.pop(name)
            rollouts = rollouts_of(
                made[name],
                num_rollouts=drawn.item.num_rollouts,
                scale=self._scale,
                max_tokens=max_tokens,
            )
            _, groups = reports.setdefault(id(drawn.batch), (drawn.batch, {}))
            groups[drawn.item.task_id] = rollouts
        for batch, groups in reports.values():
            self.curriculum.report(batch, groups)

    def _trajectories(self, keys: list[str]) -> list[Trajectory]:
        if not keys:
            return []
        data = transfer_queue.kv_batch_get(
            keys=keys, partition_id=TRAIN, select_fields=list(FIELDS)
        )
        columns = zip(*(list(data[name]) for name in FIELDS), strict=True)
        made = []
        for key, (scores_T, mask_T, extra, num_turns) in zip(keys, columns, strict=True):
            fields = getattr(extra, "data", extra)
            info = fields.get("reward_extra_info") if isinstance(fields, Mapping) else None
            made.append(
                Trajectory(
                    key=key,
                    reward=float(scores_T.sum()),
                    info=info if isinstance(info, Mapping) else {},
                    num_tokens=int(mask_T.sum()),
                    response_len=len(mask_T),
                    num_turns=int(getattr(num_turns, "data", num_turns)),
                )
            )
        return made

    def _init_dataloader(self) -> None:
        from verl.utils.dataset.rl_dataset import collate_fn

        self._theirs["_init_dataloader"]()
        trainer, settings = self._trainer, self._settings
        if trainer.config.trainer.get("val_only", False):
            return
        tasks = tasks_in(
            trainer.train_dataset, subtasks=self._scale.components, source=settings.source
        )
        size = int(trainer.config.actor_rollout_ref.rollout.n)
        if settings.local is None:
            curriculum = Curriculum.create(
                settings.run,
                tasks,
                settings.url,
                preset=settings.preset,
                group_size=size,
                seed=settings.seed,
                **settings.options(),
            )
        else:
            curriculum = Curriculum.local(
                tasks,
                run=settings.run,
                directory=settings.local,
                preset=settings.preset,
                group_size=size,
                seed=settings.seed,
                **settings.options(),
            )
        self._curriculum = curriculum
        assert curriculum.rows is not None
        num_same = curriculum.rows.num_duplicates
        if num_same:
            logger.warning(
                "%d rows repeat the prompt of another: one task, its first row", num_same
            )
        check_fit(
            curriculum.run,
            group_size=size,
            num_prompts=num_in_flight(trainer.config),
            num_tasks=len(tasks) - num_same,
        )
        data = trainer.config.data
        trainer.train_dataloader = self._loader = CurriculumLoader(
            curriculum,
            trainer.train_dataset,
            batch_size=data.get("gen_batch_size", None) or data.train_batch_size,
            collate=collate_fn,
            before_saving=lambda: self._announce(trainer.global_steps),
        )
        trainer.train_dataloader_it = None

    def _next_train_batch(self, num_prompts: int | None = None) -> Any:  # noqa: ANN401 - no types
        assert self._loader is not None
        self._begin()
        self._loader.num_wanted = num_prompts or int(self._trainer.config.data.train_batch_size)
        batch = self._theirs["_next_train_batch"](num_prompts)
        names = [str(getattr(name, "data", name)) for name in batch["uid"]]
        self._open.update(zip(names, self._loader.take(), strict=True))
        return batch

    def _begin(self) -> None:
        """Training begins, at the curriculum's step.

        Raises:
            ValueError: the run has learned of another policy than the one that begins.
        """
        if self._has_begun:
            return
        assert self._loader is not None
        here, there = int(self._trainer.global_steps) - 1, self.curriculum.policy_version
        if here != there or (here > 0 and not self._loader.is_restored):
            raise ValueError(
                f"the run {self.curriculum.run.name!r} is at step {there}, and training begins "
                f"after step {here}: "
                + (
                    "resume from a checkpoint, or give another run's name (sampler_kwargs.run)"
                    if here == 0
                    else "the checkpoint has no data.pt with the curriculum's half"
                )
            )
        self._has_begun = True

    def _announce(self, step: int) -> None:
        """A step of the trainer is a policy version, whoever asks first."""
        while self.curriculum.policy_version < step:
            self.curriculum.step()

    def _on_step_end(self) -> None:
        self._theirs["on_step_end"]()
        trainer = self._trainer
        self._announce(trainer.global_steps)
        num_epochs = trainer.global_steps // trainer.steps_per_epoch
        if (
            trainer.global_steps >= trainer.total_training_steps
            or num_epochs >= trainer.config.trainer.total_epochs
        ):
            self._end()

    def _end(self) -> None:
        """The last step is over: deliver, and give back what was not generated."""
        self._open.clear()
        if not self.curriculum.flush(LAST_WORDS_S):
            logger.warning("training ends, and the sampler has not taken all reports")
        self.curriculum.close()


def _prompt(key: str) -> str:
    """The prompt of a trajectory, `{uid}_{session}_{index}`."""
    return key.split("_")[0]
