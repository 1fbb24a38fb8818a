"""The curriculum as slime's `DataSource`: groups of samples in its order, reported before filters.

slime asks the class of `--data-source-path` for groups, and calls the function of
`--rollout-all-samples-process-path` with all that were finished, the filtered ones too. Written
against slime as read at 018ff18 (`slime/rollout/data_source.py`) and 0044b40 (`sglang_rollout.py`),
structurally: nothing of it is imported. `sampler.py` does the work.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, Unpack

from etude_proto.v1 import FinishReason

from ..curriculum.options import Options
from ..curriculum.rollouts import Rollout
from .rewards import Scale
from .rows import tasks_of
from .sampler import CurriculumPlan, RowSampler, SamplerState, check_run, open_curriculum

REWARD = "reward"
"""Component of a reward that is a number; the keys of one that is a mapping are the others."""
ROW = "etude_row"
"""Key of a sample's metadata."""
ENDS = {
    "completed": FinishReason.STOP,
    "truncated": FinishReason.LENGTH,
    "aborted": FinishReason.ABORTED,
    "failed": FinishReason.ERROR,
}
"""By status; a sample that is still pending was aborted."""


class Status(Protocol):
    """slime's `Sample.Status`."""

    value: str


class Sample(Protocol):
    """What is used of slime's `Sample`."""

    group_index: int | None
    index: int | None
    prompt: str | list[dict[str, str]]
    response_length: int
    reward: float | dict[str, Any] | None
    status: Status
    metadata: dict[str, Any]


class Arguments(Protocol):
    """What is used of slime's arguments."""

    n_samples_per_prompt: int
    rollout_batch_size: int
    over_sampling_batch_size: int
    partial_rollout: bool
    reward_key: str | None
    save: str | None
    load: str | None


SampleT = TypeVar("SampleT", bound=Sample)


class CurriculumDataSource(Generic[SampleT]):
    """Has the five methods of slime's `DataSource`, and `report` for the hook.

    A rollout that was generated counts as trained when the next one is asked for, or saved: slime
    tells a data source of no update. That is exact for `train.py`.

    Args:
        args: slime's.
        prompts: one sample a row, as `slime.utils.data.Dataset` makes them.
        run: name of the run; made unless there is one.
        plan: where the sampler is, which curriculum, and its seed; see `CurriculumPlan`.
        components: sub-tasks: `reward`, or keys of rewards that are mappings.
        ranges: by component, its lowest and highest value; default 0 and 1.
        solved_at: a rollout is a success if all its components are at least this.
        options: see `Options`.

    Raises:
        ValueError: settings or data do not fit; what to change is said.
        EtudeError: the sampler is away or refuses.
    """

    def __init__(
        self,
        args: Arguments,
        prompts: Sequence[SampleT],
        run: str,
        plan: CurriculumPlan | None = None,
        *,
        components: Sequence[str] = (REWARD,),
        ranges: Mapping[str, tuple[float, float]] | None = None,
        solved_at: float = 1.0 - 1e-6,
        **options: Unpack[Options],
    ) -> None:
        self._args = args
        self._prompts = prompts
        self._scale = Scale(tuple(components), ranges or {}, solved_at)
        tasks = tasks_of(
            [{"prompt": sample.prompt} for sample in prompts], subtasks=self._scale.components
        )
        size = args.n_samples_per_prompt
        # slime asks again while it holds less than a batch: one short of it, and a call's worth.
        num_held = args.rollout_batch_size - 1 + args.over_sampling_batch_size
        self.curriculum = open_curriculum(run, tasks, plan or {}, group_size=size, **options)
        check_run(self.curriculum.run, group_size=size, num_held=num_held)
        self.sampler = RowSampler(
            self.curriculum, num_rows=len(prompts), batch_size=args.rollout_batch_size
        )
        self._buffer: list[list[SampleT]] = []
        self._num_groups = 0
        self._is_generated = False
        self._steps_made: int | None = None

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def dataset(self) -> Sequence[SampleT]:
        """Where earlier versions of slime look for the number of rows."""
        return self._prompts

    def get_samples(self, num_samples: int) -> list[list[SampleT]]:
        """So many groups to generate: unfinished ones first, then what the sampler draws."""
        self._trained()
        if self._steps_made is not None:
            self.sampler.check_step(self._steps_made)
        groups, self._buffer = self._buffer[:num_samples], self._buffer[num_samples:]
        while len(groups) < num_samples:
            for row in self.sampler.draw(num_samples - len(groups)):
                groups.append(self._group(row))
        return groups

    def add_samples(self, samples: list[list[SampleT]]) -> None:
        """Groups that were aborted, to go on with (`--partial-rollout`)."""
        self._buffer += samples
        # The others were cut off and come back to nobody.
        self.sampler.give_back(keep=[_row(group) for group in self._buffer])

    def report(self, groups: Sequence[Sequence[SampleT]]) -> None:
        """Report all groups of a rollout that were finished, filtered or not."""
        self.sampler.report(
            {_row(group): [self._rollout(sample) for sample in _flat(group)] for group in groups}
        )
        if not self._args.partial_rollout:
            self.sampler.give_back()
        self._is_generated = True

    def save(self, rollout_id: int) -> None:
        """Write the state of a rollout that was trained, beside slime's own files."""
        self._trained()
        if self._args.save is None:
            return
        file = _file(self._args.save, rollout_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".new")
        written.write_text(json.dumps(self.sampler.state_dict()))
        written.replace(file)

    def load(self, rollout_id: int | None = None) -> None:
        """Take the run back to the state after a rollout; -1 or None: training begins.

        Raises:
            ValueError: that rollout was saved without a curriculum, or the run is ahead.
        """
        if rollout_id is None or rollout_id < 0 or self._args.load is None:
            self._steps_made = 0
            return
        file = _file(self._args.load, rollout_id)
        if not file.exists():
            raise ValueError(
                f"rollout {rollout_id} was saved without a curriculum ({file}): resume from "
                "another checkpoint, or begin a new run"
            )
        state: SamplerState = json.loads(file.read_text())
        self.sampler.load_state_dict(state)
        self._buffer.clear()
        self._is_generated = False
        self._steps_made = rollout_id + 1

    def close(self) -> None:
        """Deliver what is under way and give leases back."""
        self.curriculum.close()

    def _trained(self) -> None:
        if self._is_generated:
            self._is_generated = False
            self._steps_made = self.sampler.step()

    def _group(self, row: int) -> list[SampleT]:
        size = self._args.n_samples_per_prompt
        group = []
        for number in range(size):
            sample = copy.deepcopy(self._prompts[row])
            sample.group_index = self._num_groups
            sample.index = self._num_groups * size + number
            sample.metadata = {**(sample.metadata or {}), ROW: row}
            group.append(sample)
        self._num_groups += 1
        return group

    def _rollout(self, sample: SampleT) -> Rollout:
        made = sample.reward
        named: Mapping[str, Any] = made if isinstance(made, Mapping) else {REWARD: made}
        total = named.get(self._args.reward_key or REWARD)
        return self._scale.rollout(
            [named.get(name) for name in self._scale.names],
            reward=math.nan if total is None else float(total),
            finish_reason=ENDS.get(sample.status.value, FinishReason.ABORTED),
            num_tokens=sample.response_length,
        )


def report_groups(
    args: Arguments,
    groups: Sequence[Sequence[SampleT]],
    get_samples: Callable[[int], list[list[SampleT]]],
) -> None:
    """For `--rollout-all-samples-process-path`; slime passes the source's `get_samples`."""
    source = getattr(get_samples, "__self__", get_samples)
    assert isinstance(source, CurriculumDataSource)
    source.report(groups)


def _file(folder: str, rollout_id: int) -> Path:
    return Path(folder) / "rollout" / f"etude_{rollout_id}.json"


def _flat(group: Sequence[SampleT | Sequence[SampleT]]) -> list[SampleT]:
    """The samples of a group; of a rollout that fans out into several, the last: it is scored."""
    return [one[-1] if isinstance(one, Sequence) else one for one in group]


def _row(group: Sequence[SampleT]) -> int:
    row: int = _flat(group)[0].metadata[ROW]
    return row
