"""The curriculum in OpenRLHF's `PPOTrainer`: one call at the end of its `__init__`.

Prompts come from the sampler instead of a shuffle, each group is reported when its last response is
turned into an experience, before dynamic filtering, every `train_step` is a policy version, and the
loader's state in a checkpoint holds the curriculum of its step. Written for OpenRLHF 0.11.2: it
replaces `prompts_dataloader` and `train_step` of the trainer, and three methods of its samples
generator. `sampler.py` does the work; nothing of OpenRLHF is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from torchdata.stateful_dataloader import StatefulDataLoader

from etude_proto.v1 import FinishReason

from ..curriculum.options import Options
from ..curriculum.rollouts import Rollout
from .rewards import Scale
from .rows import tasks_of
from .sampler import CurriculumPlan, RowSampler, check_run, open_curriculum

if TYPE_CHECKING:
    from openrlhf.trainer.ppo_trainer import BasePPOTrainer
    from openrlhf.trainer.ppo_utils.experience import Experience

REWARD = "reward"
"""Component of the scalar reward; every other name is one of the reward's `extra_logs`."""


def add_curriculum(
    trainer: BasePPOTrainer,
    run: str,
    plan: CurriculumPlan | None = None,
    *,
    components: Sequence[str] = (REWARD,),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    solved_at: float = 1.0 - 1e-6,
    **options: Unpack[Options],
) -> OpenrlhfCurriculum:
    """Let a sampler choose what a `PPOTrainer` practises; call it before `fit`.

    The trainer's prompts, as its `PromptDataset` made them, are the tasks, and their `datasource`
    is the source. Prompts with the same text are one task.

    Args:
        trainer: made, and not yet trained; synchronous.
        run: name of the run; made unless there is one.
        plan: where the sampler is, which curriculum, and its seed; see `CurriculumPlan`.
        components: sub-tasks: `reward`, or keys of the `extra_logs` of the reward function.
        ranges: by component, its lowest and highest value; default 0 and 1.
        solved_at: a rollout is a success if all its components are at least this.
        options: see `Options`.

    Raises:
        ValueError: the trainer's settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """
    args = trainer.args
    if getattr(args.train, "async_enable", False):
        raise ValueError("the curriculum does not follow asynchronous training: unset async_enable")
    data = trainer.prompts_dataloader.dataset
    if any(image is not None for image in data.images):
        raise ValueError("the curriculum knows prompts by their text: rows with images do not fit")
    scale = Scale(tuple(components), ranges or {}, solved_at)
    table = [
        {"prompt": prompt, "source": source}
        for prompt, source in zip(data.prompts, data.datasources, strict=True)
    ]
    tasks = tasks_of(table, subtasks=scale.components, source="source")
    group_size = args.rollout.n_samples_per_prompt
    batch_size = args.rollout.batch_size
    num_held = getattr(args.rollout, "vllm_generate_batch_size", None) or batch_size
    is_filtered = args.algo.dynamic_filtering_enable
    curriculum = open_curriculum(run, tasks, plan or {}, group_size=group_size, **options)
    check_run(
        curriculum.run,
        group_size=group_size,
        num_held=num_held,
        # A batch may come to be replacements only.
        num_leases=num_held if is_filtered else 1,
    )
    sampler = RowSampler(
        curriculum,
        num_rows=len(data),
        batch_size=batch_size,
        # Filtered prompts are replaced one by one: no more is leased ahead than is needed.
        chunk=1 if is_filtered else batch_size,
        saves=lambda: is_kept(curriculum.policy_version, args.ckpt.save_steps, args.eval.steps),
    )
    return OpenrlhfCurriculum(trainer, sampler, scale, group_size=group_size)


def is_kept(step: int, *intervals: float) -> bool:
    """Whether the trainer keeps the loader's state of a step: it asks for it at every step.

    Args:
        intervals: steps between checkpoints, and between evaluations; not finite: never.
    """
    return any(math.isfinite(every) and step % every == 0 for every in intervals)


class OpenrlhfCurriculum:
    """A curriculum at work in a trainer; `close` it, or let the process end.

    Args:
        trainer: whose loader and methods are replaced.
        sampler: over the trainer's prompts.
        scale: of the rewards.
        group_size: responses a prompt.
    """

    def __init__(
        self, trainer: BasePPOTrainer, sampler: RowSampler, scale: Scale, *, group_size: int
    ) -> None:
        self.sampler = sampler
        self.curriculum = sampler.curriculum
        self._scale = scale
        self._group_size = group_size
        self._is_evaluating = False
        self._made: dict[int, list[Rollout]] = {}
        data = trainer.prompts_dataloader.dataset
        self._rows: dict[str, int] = {}
        for row, prompt in enumerate(data.prompts):
            self._rows.setdefault(prompt, row)
        generator = trainer.samples_generator
        self._process = generator._process_response_into_experience
        self._evaluate = generator.generate_eval_samples
        self._generate = generator._generate_vllm
        self._step = trainer.train_step
        loader = StatefulDataLoader(
            data,
            batch_size=1,
            sampler=sampler,
            collate_fn=data.collate_fn,
            drop_last=True,
            num_workers=0,
        )
        trainer.prompts_dataloader = loader
        generator.prompts_dataloader = loader
        generator._process_response_into_experience = self._process_and_report
        generator.generate_eval_samples = self._evaluate_unreported
        generator._generate_vllm = self._expect_and_generate
        trainer.train_step = self._train_step

    def close(self) -> None:
        """Deliver what is under way and give leases back."""
        self.curriculum.close()

    def _process_and_report(self, response: Mapping[str, Any], **more: object) -> Experience:
        experience = self._process(response, **more)
        if not self._is_evaluating:
            row = self._rows[response["prompt"]]
            group = self._made.setdefault(row, [])
            group.append(rollout_of_response(response, self._scale))
            if len(group) == self._group_size:
                self.sampler.report({row: self._made.pop(row)})
        return experience

    def _expect_and_generate(self, *, num_prompts: int, **more: object) -> object:
        """A batch is drawn whole, and what replaces its filtered prompts afterwards one by one."""
        if not self._is_evaluating:
            self.sampler.expect(num_prompts)
        return self._generate(num_prompts=num_prompts, **more)

    def _evaluate_unreported(self, **more: object) -> list[Experience]:
        self._is_evaluating = True
        try:
            made: list[Experience] = self._evaluate(**more)
            return made
        finally:
            self._is_evaluating = False

    def _train_step(
        self, rollout_samples: list[Experience], global_step: int
    ) -> tuple[dict[str, object], int]:
        self.sampler.check_step(global_step)
        status, next_step = self._step(rollout_samples, global_step)
        self.sampler.step(status)
        return status, next_step


def rollout_of_response(response: Mapping[str, Any], scale: Scale) -> Rollout:
    """A response of OpenRLHF's executors, scored; one without a reward is no evidence."""
    reward = response.get("reward")
    total = math.nan if reward is None else float(reward)
    logs = response.get("extra_logs") or {}
    return scale.rollout(
        [total if name == REWARD else _number(logs.get(name)) for name in scale.names],
        reward=total,
        finish_reason=FinishReason.LENGTH if response.get("truncated") else FinishReason.STOP,
        num_tokens=sum(end - start for start, end in response["action_ranges"]),
    )


def _number(value: Any) -> float | None:  # noqa: ANN401  # a number, or a tensor that begins with it
    if value is None:
        return None
    return float(value.flatten()[0] if hasattr(value, "flatten") else value)
