"""The curriculum in TRL's `GRPOTrainer`: one call between making the trainer and `train()`.

Batches come from the sampler instead of a shuffled data set, rewards are reported before anything
filters them, every optimizer step is a policy version, and a checkpoint of the trainer holds the
curriculum of its step. Written for TRL 1.16 (transformers 5.17): it replaces `_get_train_sampler`,
`_calculate_rewards`, `_save_checkpoint` and `_load_optimizer_and_scheduler` of one trainer object.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from transformers import TrainerCallback

from etude_proto.v1 import CurriculumConfig, FinishReason, TaskCreate

from ..curriculum import Curriculum, Rollout
from ..curriculum.options import Options
from .rewards import Scale
from .rows import ColumnFault, tasks_of
from .sampler import scalars
from .trl_sampler import CurriculumSampler, Shape, check_fit

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import GRPOTrainer

logger = logging.getLogger("etude_client")

Row = Mapping[str, object]
STATE_FILE = "etude.json"
"""The curriculum's half, in the trainer's checkpoint folder."""


def add_curriculum(
    trainer: GRPOTrainer,
    run: str,
    url: str | None = None,
    *,
    local: str | Path | None = None,
    preset: str | CurriculumConfig = "dscl",
    source: str | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    solved_at: float = 1.0 - 1e-6,
    **options: Unpack[Options],
) -> TrlCurriculum:
    """Let a sampler choose what a `GRPOTrainer` practises; call it before `trainer.train()`.

    The trainer's data set is imported as tasks, its reward functions become the sub-tasks, and a
    run of this name is made unless there is one. Every rank calls it.

    Args:
        trainer: made, and not yet trained.
        run: name of the run.
        url: of a sampler; default `ETUDE_SAMPLER_URL`, or the port of `etude serve`.
        local: instead of a URL, a folder for a sampler that is started here (`Curriculum.local`).
        preset: name of a curriculum (`etude strategies` lists them), or its parts.
        source: column that says where a row came from, for lanes and quotas by source.
        ranges: by reward function, its lowest and highest value; default 0 and 1.
        solved_at: a completion is a success if all its components are at least this.
        options: see `Options`; `on_outage="uniform"` keeps training while the sampler is away.

    Raises:
        ValueError: the trainer's settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """
    scale = Scale(tuple(trainer.reward_func_names), ranges or {}, solved_at)
    tasks = _tasks(trainer, scale, source)
    size = trainer.num_generations
    seed = trainer.args.seed
    if local is None:
        curriculum = Curriculum.create(
            run, tasks, url, preset=preset, group_size=size, seed=seed, **options
        )
    else:
        curriculum = Curriculum.local(
            tasks, run=run, directory=local, preset=preset, group_size=size, seed=seed, **options
        )
    return TrlCurriculum(trainer, curriculum, scale)


def _tasks(trainer: GRPOTrainer, scale: Scale, source: str | None) -> list[TaskCreate]:
    dataset = trainer.train_dataset
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(
            "the curriculum needs a data set with a length; a streamed one can be imported with "
            "`etude import`, and trained with Curriculum(run=...)"
        )
    try:
        return tasks_of(dataset, subtasks=scale.components, source=source)
    except ColumnFault as fault:
        raise ValueError(str(fault)) from fault


@dataclass
class TrlCurriculum:
    """A curriculum at work in a trainer; `close` it, or let the process end.

    Raises:
        ValueError: the run does not fit the trainer (`check_fit`).
    """

    trainer: GRPOTrainer
    curriculum: Curriculum
    scale: Scale
    shape: Shape = field(init=False)
    sampler: CurriculumSampler | None = field(init=False, default=None)
    _rewards: Any = field(init=False)
    _save: Any = field(init=False)
    _load: Any = field(init=False)

    def __post_init__(self) -> None:
        trainer: Any = self.trainer
        self.shape = Shape.of(self.trainer)
        check_fit(self.curriculum.run, self.shape)
        # Batches come from the curriculum: there is nothing to skip to on a resume.
        trainer.args.ignore_data_skip = True
        self._rewards = trainer._calculate_rewards
        self._save = trainer._save_checkpoint
        self._load = trainer._load_optimizer_and_scheduler
        trainer._get_train_sampler = self._get_train_sampler
        trainer._calculate_rewards = self._calculate_rewards
        trainer._save_checkpoint = self._save_checkpoint
        trainer._load_optimizer_and_scheduler = self._load_optimizer_and_scheduler
        trainer.add_callback(_Steps(self))

    def close(self) -> None:
        """Deliver what is under way and give leases back."""
        self.curriculum.close()

    def _get_train_sampler(self, dataset: Sized | None = None) -> CurriculumSampler:
        self.sampler = CurriculumSampler(self.curriculum, self.shape)
        return self.sampler

    def _calculate_rewards(
        self,
        inputs: list[Row],
        prompts: list[object],
        completions: list[object],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        rewards_PF: torch.Tensor = self._rewards(inputs, prompts, completions, completion_ids_list)
        if self.trainer.model.training:
            self._report(inputs, rewards_PF, completion_ids_list)
        return rewards_PF

    def _report(
        self, inputs: list[Row], rewards_PF: torch.Tensor, completion_ids: Sequence[Sequence[int]]
    ) -> None:
        """Report this rank's rows; `rewards_PF` holds those of all ranks, in their order."""
        if self.sampler is None or not self.sampler.drawn:
            raise RuntimeError("rewards for a batch that the curriculum did not draw")
        batch = self.sampler.drawn.popleft()
        first = self.trainer.accelerator.process_index * len(inputs)
        mine_RF = rewards_PF[first : first + len(inputs)]
        weights_F = self.trainer.reward_weights.to(mine_RF.device)
        totals_R = (mine_RF * weights_F).nansum(dim=1).tolist()
        made: dict[str, list[Rollout]] = {}
        for row, (values, total) in enumerate(zip(mine_RF.tolist(), totals_R, strict=True)):
            item = batch.items[(first + row) // self.shape.group_size]
            self._check(item.index, inputs[row])
            ids = completion_ids[row]
            rollout = self.scale.rollout(
                values, reward=total, finish_reason=self._end(ids), num_tokens=len(ids)
            )
            made.setdefault(item.task_id, []).append(rollout)
        self.curriculum.report(batch, made)

    def _check(self, index: int | None, row: Row) -> None:
        """A row that is not the one that was drawn means that the loader's order changed."""
        assert index is not None
        expected = self.trainer.train_dataset[index]["prompt"]
        if row.get("prompt") != expected:
            raise RuntimeError(
                f"the data loader gave another row than {index}, which was drawn: its batches are "
                "split in a way that this adapter does not know"
            )

    def _end(self, ids: Sequence[int]) -> FinishReason:
        limit = self.trainer.args.max_completion_length
        is_cut = limit is not None and len(ids) >= limit
        if is_cut and (not ids or int(ids[-1]) not in self.trainer.eos_token_ids):
            return FinishReason.LENGTH
        return FinishReason.STOP

    def _save_checkpoint(self, model: object, trial: object) -> None:
        """The curriculum's half comes first: a whole checkpoint always has it."""
        state = self.curriculum.state_dict()
        if self.trainer.args.should_save:
            output = Path(self.trainer._get_output_dir(trial=trial))
            folder = output / f"checkpoint-{self.trainer.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{STATE_FILE}.new"
            file.write_text(json.dumps(state))
            file.replace(folder / STATE_FILE)
        self._save(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        self._load(checkpoint)
        if checkpoint is None:
            return
        file = Path(checkpoint) / STATE_FILE
        if not file.exists():
            raise ValueError(
                f"{checkpoint} was saved without a curriculum ({STATE_FILE}): begin a new run, or "
                "resume without one"
            )
        self.curriculum.load_state_dict(json.loads(file.read_text()))

    def begin(self, global_step: int) -> None:
        """Training begins.

        Raises:
            ValueError: the run has learned of another policy than the one that begins.
        """
        ahead = self.curriculum.policy_version
        if global_step == 0 and ahead > 0:
            raise ValueError(
                f"the run {self.curriculum.run.name!r} is at step {ahead} already, and training "
                "begins at 0: resume from a checkpoint, or give another name"
            )

    def end(self) -> None:
        """Training ended: what the data loader looked ahead is given back."""
        if self.sampler is not None:
            self.sampler.drawn.clear()
        self.curriculum.release()
        self.curriculum.flush(60.0)


class _Steps(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Optimizer steps are policy versions."""

    def __init__(self, owner: TrlCurriculum) -> None:
        self._owner = owner

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: object,
    ) -> None:
        self._owner.begin(state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: object,
    ) -> None:
        newest = state.log_history[-1] if state.log_history else {}
        self._owner.curriculum.step(metrics=scalars(newest))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: object,
    ) -> None:
        self._owner.end()
