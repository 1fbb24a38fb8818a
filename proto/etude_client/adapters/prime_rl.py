"""The curriculum as prime-rl's `TaskSampler`, with its gate and its observer of versions.

prime-rl asks a task sampler for the next task, shows it every finished group before its gates, and
keeps its state in the orchestrator's checkpoint. Written against prime-rl as read at 0c771bb
(`src/prime_rl/orchestrator/curriculum`, `train_source.py`), structurally: nothing is imported.
`sampler.py` does the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar, Unpack

from etude_proto.v1 import FinishReason, Message, TaskCreate

from ..curriculum.options import Options
from ..curriculum.rollouts import Rollout
from .rewards import Scale
from .sampler import CurriculumPlan, RowSampler, SamplerState, check_run, open_curriculum

REWARD = "reward"
"""Component of the scalar reward; every other name is one of a trace's `metrics`."""


class Task(Protocol):
    """What is used of `verifiers.v1.Task`."""

    @property
    def key(self) -> str | None:
        """Its name in its set of tasks."""


class Agent(Protocol):
    """Who speaks in a trace."""

    @property
    def trainable(self) -> bool:
        """Whether it is the policy."""


class Trace(Protocol):
    """What is used of `verifiers.v1.Trace`."""

    @property
    def reward(self) -> float:
        """Of the episode, for this agent."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the environment measured."""

    @property
    def has_error(self) -> bool:
        """Whether it failed for a technical reason."""

    @property
    def agent(self) -> Agent:
        """Whose trace it is."""


class Episode(Protocol):
    """What is used of `verifiers.v1.Episode`."""

    @property
    def task(self) -> Task:
        """Of its group."""

    @property
    def traces(self) -> Sequence[Trace]:
        """One an agent."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""


TaskT = TypeVar("TaskT", bound=Task)


class CurriculumSampler(Generic[TaskT]):
    """Has the methods of prime-rl's `TaskSampler`, and `on_new_version` of its observers.

    prime-rl calls it in its event loop and takes results there too, so waiting for a task would
    wait for ever: after `timeout_s` it is an error.

    Args:
        tasks: of one environment, with their keys.
        prompts: what each of them asks, in the same order; a task of Etude is its prompt.
        run: name of the run; made unless there is one.
        plan: where the sampler is, which curriculum, and its seed; see `CurriculumPlan`.
        group_size: of the environment.
        num_groups: that may be in flight at a time.
        max_off_policy_steps: as in the configuration: a group drawn earlier was cancelled.
        components: sub-tasks: `reward`, or keys of a trace's `metrics`.
        ranges: by component, its lowest and highest value; default 0 and 1.
        timeout_s: longest wait for a task.
        options: see `Options`.

    Raises:
        ValueError: settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """

    def __init__(
        self,
        tasks: Sequence[TaskT],
        prompts: Sequence[str],
        run: str,
        plan: CurriculumPlan | None = None,
        *,
        group_size: int,
        num_groups: int,
        max_off_policy_steps: int = 8,
        components: Sequence[str] = (REWARD,),
        ranges: Mapping[str, tuple[float, float]] | None = None,
        timeout_s: float = 30.0,
        **options: Unpack[Options],
    ) -> None:
        self._tasks = list(tasks)
        self._rows = {task.key: row for row, task in enumerate(self._tasks)}
        if None in self._rows or len(self._rows) < len(self._tasks):
            raise ValueError("every task needs a key of its own")
        self._scale = Scale(tuple(components), ranges or {})
        made = [
            TaskCreate(
                messages=[Message(role="user", content=prompt)],
                subtasks=list(self._scale.components),
            )
            for prompt in prompts
        ]
        if len(made) != len(self._tasks):
            raise ValueError(f"{len(self._tasks)} tasks, but {len(made)} prompts")
        self.curriculum = open_curriculum(run, made, plan or {}, group_size=group_size, **options)
        check_run(
            self.curriculum.run,
            group_size=group_size,
            num_held=num_groups,
            num_leases=num_groups,  # it draws one by one
        )
        self._sampler = RowSampler(
            self.curriculum, num_rows=len(made), batch_size=1, timeout_s=timeout_s
        )
        self._max_off_policy_steps = max_off_policy_steps
        self._num_reported = 0
        self._num_dropped = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TaskT:
        """The task that the sampler draws next."""
        (row,) = self._sampler.draw(1)
        return self._tasks[row]

    def observe(self, group: Sequence[Episode]) -> None:
        """Report a finished group, admitted or not; failures are no evidence of the policy.

        It carries the newest version, though its rollouts may have begun some versions earlier.
        """
        row = self._rows[group[0].task.key]
        if row not in self._sampler.held:  # generated before a resume, and replayed
            return
        rollouts = [self._rollout(one) for one in group]
        self._num_reported += 1
        self._sampler.report({row: rollouts})

    async def on_new_version(self, step: int) -> None:
        """The policy was updated; the watcher may pass over versions."""
        while self.curriculum.policy_version < step:
            self._sampler.step()
        # Cancelled groups reach no observer: what would be too old now is given back.
        oldest = step - self._max_off_policy_steps
        self._num_dropped += self._sampler.give_back(drawn_before=oldest)

    async def on_version_pending(self, step: int) -> None:
        """Nothing yet."""

    def state_dict(self) -> SamplerState:
        """For the orchestrator's checkpoint; takes a curriculum checkpoint."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: SamplerState) -> None:
        """Take the run back to a checkpoint's step.

        Raises:
            ValueError: the state is of another run, or its curriculum checkpoint is gone.
        """
        self._sampler.load_state_dict(state)

    def metrics(self) -> dict[str, float]:
        """For prime-rl's logs."""
        return {
            "policy_version": float(self.curriculum.policy_version),
            "held": float(len(self._sampler.held)),
            "reported": float(self._num_reported),
            "dropped": float(self._num_dropped),
        }

    def _rollout(self, episode: Episode) -> Rollout:
        traces = [one for one in episode.traces if one.agent.trainable]
        if not episode.ok or not traces or any(one.has_error for one in traces):
            return Rollout(0.0, finish_reason=FinishReason.ERROR)
        reward = sum(one.reward for one in traces) / len(traces)
        named = {**traces[-1].metrics, REWARD: reward}
        return self._scale.rollout([named.get(name) for name in self._scale.names], reward=reward)
