"""The curriculum in NeMo RL's GRPO: a data set that gives rows in its order, and two hooks.

`setup` of NeMo RL builds a stateful loader over whatever data set it gets, and saves it with each
checkpoint: this data set answers with the row that the sampler drew, whatever position is asked
for, and its state holds the curriculum of its step. Groups are reported where `grpo_train` scales
rewards: after the rollouts, before dynamic sampling. A call of `policy.train` is a policy version.
Written against NeMo RL as read at 002cdc2 (`nemo_rl/algorithms/grpo.py`), structurally: nothing of
it is imported. `sampler.py` does the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, Unpack

from etude_proto.v1 import FinishReason, TaskCreate

from ..curriculum.options import Options
from ..curriculum.rollouts import Rollout
from .rewards import Scale
from .rows import tasks_of
from .sampler import CurriculumPlan, RowSampler, SamplerState, check_run, open_curriculum

ReturnT = TypeVar("ReturnT")
Datum = Mapping[str, object]
"""NeMo RL's `DatumSpec`: `message_log`, `length`, `extra_env_info`, `loss_multiplier`, `idx`."""
REWARD = "total_reward"
"""Key of the scalar reward in a batch; other components are keys beside it."""


class Values(Protocol):
    """A tensor of one value a rollout."""

    def tolist(self) -> list[float]:
        """As numbers."""


class Table(Protocol):
    """NeMo RL's `AllTaskProcessedDataset`."""

    def __len__(self) -> int:
        """Rows."""

    def __getitem__(self, row: int, /) -> Datum:
        """A row, processed."""


class GrpoModule(Protocol):
    """`nemo_rl.algorithms.grpo`, whose loop finds `scale_rewards` by its name."""

    scale_rewards: Callable[..., object]


class Policy(Protocol):
    """NeMo RL's policy: `train` is called once a step."""

    train: Callable[..., object]


class CurriculumDataset:
    """Rows of `table` in the order of the curriculum, for NeMo RL's `setup`.

    Args:
        table: the training data, processed.
        run: name of the run; made unless there is one.
        plan: where the sampler is, which curriculum, and its seed; see `CurriculumPlan`.
        batch_size: `grpo.num_prompts_per_step`, times `batch_multiplier` if there is one.
        group_size: `grpo.num_generations_per_prompt`.
        components: sub-tasks: keys of the batch after the rollouts, one value a rollout each.
        ranges: by component, its lowest and highest value; default 0 and 1.
        solved_at: a rollout is a success if all its components are at least this.
        options: see `Options`.

    Raises:
        ValueError: settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """

    def __init__(
        self,
        table: Table,
        run: str,
        plan: CurriculumPlan | None = None,
        *,
        batch_size: int,
        group_size: int,
        components: Sequence[str] = (REWARD,),
        ranges: Mapping[str, tuple[float, float]] | None = None,
        solved_at: float = 1.0 - 1e-6,
        **options: Unpack[Options],
    ) -> None:
        self._table = table
        self._scale = Scale(tuple(components), ranges or {}, solved_at)
        tasks = _tasks(table, self._scale.components)
        self.curriculum = open_curriculum(run, tasks, plan or {}, group_size=group_size, **options)
        check_run(self.curriculum.run, group_size=group_size, num_held=batch_size)
        self.sampler = RowSampler(self.curriculum, num_rows=len(table), batch_size=batch_size)
        self._rows = iter(self.sampler)
        self._steps_made: int | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, position: int) -> dict[str, object]:
        """The next row that the sampler drew, whatever the position.

        Raises:
            RuntimeError: in a worker of the loader, from where nothing could be reported.
            ValueError: trainer and curriculum are at different steps.
        """
        torch = sys.modules.get("torch")
        if torch is not None and torch.utils.data.get_worker_info() is not None:
            raise RuntimeError(
                "the curriculum draws in the trainer's own process: set data.num_workers=0"
            )
        if self._steps_made is not None:
            self.sampler.check_step(self._steps_made)
        row = next(self._rows, None)
        if row is None:  # an epoch ended
            self._rows = iter(self.sampler)
            row = next(self._rows)
        return {**self._table[row], "idx": row}

    def attach(self, grpo: GrpoModule, policy: Policy, *, steps_made: int) -> None:
        """Report from `grpo_train`, and follow its steps; call it between `setup` and training.

        Args:
            grpo: the module `nemo_rl.algorithms.grpo`.
            policy: that `setup` returned.
            steps_made: `total_steps` of the state that `setup` returned.
        """
        self._steps_made = steps_made
        scale, train = grpo.scale_rewards, policy.train

        def report_and_scale(batch: Mapping[str, object], *args: object, **more: object) -> object:
            self.sampler.report(groups_of(batch, self._scale))
            return scale(batch, *args, **more)

        def train_and_step(*args: object, **more: object) -> object:
            results = train(*args, **more)
            self.sampler.step(results if isinstance(results, Mapping) else None)
            self._steps_made = self.curriculum.policy_version
            return results

        grpo.scale_rewards = report_and_scale
        policy.train = train_and_step

    def state_dict(self) -> SamplerState:
        """For the loader's state; NeMo RL asks for it when it saves a checkpoint."""
        self.sampler.give_back()
        return self.sampler.state_dict()

    def load_state_dict(self, state: SamplerState) -> None:
        """Take the run back to a checkpoint's step.

        Raises:
            ValueError: the state is of another run, or its curriculum checkpoint is gone.
        """
        self.sampler.load_state_dict(state)
        self._rows = iter(self.sampler)

    def close(self) -> None:
        """Deliver what is under way and give leases back."""
        self.curriculum.close()


def _tasks(table: Table, subtasks: Sequence[str]) -> list[TaskCreate]:
    """Tasks of the processed rows: their dialogues, and the name of their task as source."""
    rows = [
        {"prompt": datum["message_log"], "source": datum.get("task_name") or "default"}
        for datum in (table[row] for row in range(len(table)))
    ]
    return tasks_of(rows, subtasks=subtasks, source="source")


def groups_of(batch: Mapping[str, object], scale: Scale) -> dict[int, list[Rollout]]:
    """The rollouts of one generation by row, in their order.

    Raises:
        ValueError: the batch has no values for a component.
    """
    missing = [name for name in (REWARD, *scale.names) if name not in batch]
    if missing:
        raise ValueError(f"the batch has no {missing[0]!r} after the rollouts: {sorted(batch)}")
    values = {name: _numbers(batch[name]) for name in (REWARD, *scale.names)}
    rows = _numbers(batch["idx"])
    cut = _numbers(batch["truncated"]) if "truncated" in batch else [0.0] * len(rows)
    groups: dict[int, list[Rollout]] = {}
    for number, row in enumerate(rows):
        rollout = scale.rollout(
            [values[name][number] for name in scale.names],
            reward=values[REWARD][number],
            finish_reason=FinishReason.LENGTH if cut[number] else FinishReason.STOP,
        )
        groups.setdefault(int(row), []).append(rollout)
    return groups


def _numbers(values: object) -> list[float]:
    found = values.tolist() if hasattr(values, "tolist") else values
    assert isinstance(found, list)
    return [float(value) for value in found]
