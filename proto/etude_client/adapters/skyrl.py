"""The curriculum in SkyRL's `RayPPOTrainer`: one call where the experiment makes its trainer.

Rows come from the sampler instead of a shuffle, groups are reported where SkyRL has generated them,
before dynamic sampling filters or replaces any, every step is a policy version, and the data
loader's state in a checkpoint holds the curriculum of its step. Written for SkyRL 0.3.0: it
replaces the trainer's `train_dataloader` and `generate`, and adds a callback. `sampler.py` does the
work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from skyrl.train.utils.callbacks import TrainingCallback
from torchdata.stateful_dataloader import StatefulDataLoader

from etude_proto.v1 import FinishReason

from ..curriculum.options import Options
from ..curriculum.rollouts import Rollout
from .rewards import Scale
from .rows import tasks_of
from .sampler import CurriculumPlan, RowSampler, check_run, open_curriculum

if TYPE_CHECKING:
    from skyrl.train.generators.base import GeneratorInput, GeneratorOutput
    from skyrl.train.trainer import RayPPOTrainer
    from skyrl.train.utils.callbacks import CallbackInput, TrainingControl

REWARD = "reward"
"""Component of the scalar reward; every other name is a metric of the environment."""
AGAIN = "-again-"
"""Between a row and a number in the `uid` of a row that a step has twice."""
ENDS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORTED,
    "aborted": FinishReason.ABORTED,
    "error": FinishReason.ERROR,
    "timeout": FinishReason.TIMEOUT,
}
"""Stop reasons of SkyRL's engines; any other is a stop."""


def add_curriculum(
    trainer: RayPPOTrainer,
    run: str,
    plan: CurriculumPlan | None = None,
    *,
    components: Sequence[str] = (REWARD,),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    solved_at: float = 1.0 - 1e-6,
    source: str | None = None,
    **options: Unpack[Options],
) -> SkyrlCurriculum:
    """Let a sampler choose what a `RayPPOTrainer` practises; call it before `trainer.train()`.

    Args:
        trainer: made, and not yet trained; synchronous.
        run: name of the run; made unless there is one.
        plan: where the sampler is, which curriculum, and its seed; see `CurriculumPlan`.
        components: sub-tasks: `reward`, or keys of what the environment's `get_metrics` returns.
        ranges: by component, its lowest and highest value; default 0 and 1.
        solved_at: a rollout is a success if all its components are at least this.
        source: column that says where a row came from, for lanes and quotas by source.
        options: see `Options`.

    Raises:
        ValueError: the trainer's settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """
    cfg = trainer.cfg
    loader, data = trainer.train_dataloader, trainer.train_dataset
    if loader is None or data is None:
        raise ValueError("the trainer has no training data: the curriculum needs its rows")
    batch_size = cfg.trainer.train_batch_size
    if loader.batch_size != batch_size:
        raise ValueError(
            "SkyRL's fully asynchronous trainer draws and filters by itself: use RayPPOTrainer"
        )
    scale = Scale(tuple(components), ranges or {}, solved_at)
    tasks = tasks_of(
        data.dataframe, prompt=data.prompt_key, subtasks=scale.components, source=source
    )
    group_size = cfg.generator.n_samples_per_prompt
    curriculum = open_curriculum(run, tasks, plan or {}, group_size=group_size, **options)
    check_run(curriculum.run, group_size=group_size, num_held=batch_size)
    sampler = RowSampler(curriculum, num_rows=len(data), batch_size=batch_size, starts_anew=True)
    return SkyrlCurriculum(trainer, sampler, scale)


class SkyrlCurriculum(TrainingCallback):  # type: ignore[misc]  # skyrl has no types
    """A curriculum at work in a trainer; it gives back what is left when training ends.

    Args:
        trainer: whose loader and `generate` are replaced.
        sampler: over the trainer's rows.
        scale: of the rewards.
    """

    def __init__(self, trainer: RayPPOTrainer, sampler: RowSampler, scale: Scale) -> None:
        self.trainer: Any = trainer
        self.sampler = sampler
        self.curriculum = sampler.curriculum
        self._scale = scale
        self._generate = trainer.generate
        self._named: set[str] = set()
        data = trainer.train_dataset
        self._collate = data.collate_fn
        # Rows are in memory, and a loader's worker would draw ahead: one process.
        self.trainer.train_dataloader = StatefulDataLoader(
            data,
            batch_size=trainer.cfg.trainer.train_batch_size,
            sampler=sampler,
            collate_fn=self._collate_apart,
            drop_last=True,
            num_workers=0,
        )
        self.trainer.generate = self._generate_and_report
        trainer.add_callback(self)

    def _collate_apart(self, rows: list[object]) -> list[dict[str, Any]]:
        """A row that was reported may be drawn again within one step, when the filter asks for
        more: it is another group then, and SkyRL tells groups by `uid`."""
        collated: list[dict[str, Any]] = self._collate(rows)
        for one in collated:
            row, again = one["uid"], 0
            while one["uid"] in self._named:
                again += 1
                one["uid"] = f"{row}{AGAIN}{again}"
            self._named.add(one["uid"])
        return collated

    async def _generate_and_report(self, input_batch: GeneratorInput) -> GeneratorOutput:
        output = await self._generate(input_batch)
        self.sampler.report(groups_of(input_batch, output, self._scale))
        return output

    def on_step_start(
        self, trainer: RayPPOTrainer, callback_input: CallbackInput, control: TrainingControl
    ) -> None:
        """The first rows of a step were drawn."""
        self.sampler.check_step(callback_input.global_step - 1)

    def on_step_end(
        self, trainer: RayPPOTrainer, callback_input: CallbackInput, control: TrainingControl
    ) -> None:
        """The policy was updated; SkyRL's checkpoint, if any, comes next."""
        self._named.clear()
        self.sampler.give_back()  # rows that were cut off to make shards even
        self.sampler.step(callback_input.metrics)

    def on_train_end(
        self, trainer: RayPPOTrainer, callback_input: CallbackInput, control: TrainingControl
    ) -> None:
        """What is left is given back, and everything is delivered."""
        self.curriculum.release()
        self.curriculum.flush(60.0)


def groups_of(
    given: GeneratorInput, output: GeneratorOutput, scale: Scale
) -> dict[int, list[Rollout]]:
    """The rollouts of one generation by row, in their order.

    With step-wise trajectories a rollout is several samples: its last one has the reward, and all
    count as its tokens.
    """
    by_step = output.get("is_last_step") is not None
    names = output["trajectory_ids"] if by_step else given["trajectory_ids"]
    groups: dict[int, list[Rollout]] = {}
    num_tokens = 0
    for number, name in enumerate(names or ()):
        num_tokens += len(output["response_ids"][number])
        if by_step and not output["is_last_step"][number]:
            continue
        rollout = _rollout(output, number, scale, num_tokens)
        groups.setdefault(int(name.instance_id.partition(AGAIN)[0]), []).append(rollout)
        num_tokens = 0
    return groups


def _rollout(output: GeneratorOutput, number: int, scale: Scale, num_tokens: int) -> Rollout:
    reward = output["rewards"][number]
    total = float(sum(reward)) if isinstance(reward, list) else float(reward)
    metrics = (output.get("env_metrics") or {}) and output["env_metrics"][number]
    named = {**(metrics or {}), REWARD: total}
    ends = output.get("stop_reasons")
    return scale.rollout(
        [named.get(name) for name in scale.names],
        reward=total,
        finish_reason=ENDS.get(ends[number] if ends else "stop", FinishReason.STOP),
        num_tokens=num_tokens,
    )
