"""Work for a sampler under test: tasks, outcomes and trajectories, each a function of numbers.

Nothing is drawn from a global generator: an outcome depends on the task, the version and a skill,
so two samplers that serve the same batches get the same reports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from etude_proto.tensors import GroupTrajectories, encode_group
from etude_proto.v1 import (
    Attempt,
    CallsReference,
    FinishReason,
    GroupReport,
    Message,
    Outcome,
    PromptBatch,
    Report,
    Split,
    TaskCreate,
)

SUBTASKS = ("format", "tool_name", "param_value")
"""Sub-tasks of the tasks below; a task exercises one to three of them."""


def task(
    number: int,
    *,
    subtasks: Sequence[str] | None = None,
    source: str = "unit",
    split: Split = Split.TRAIN,
) -> TaskCreate:
    """The task of a number; by default every third exercises 1, 2, 3 sub-tasks."""
    names = SUBTASKS[: 1 + number % 3] if subtasks is None else subtasks
    return TaskCreate(
        messages=[Message(role="user", content=f"question {number}")],
        reference=CallsReference.model_validate({"calls": [{"name": f"tool_{number}"}]}),
        subtasks=list(names),
        source=source,
        split=split,
    )


def lines(tasks: Sequence[TaskCreate]) -> bytes:
    """Tasks as NDJSON."""
    return b"".join(one.model_dump_json().encode() + b"\n" for one in tasks)


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def outcome(
    components: dict[str, float],
    *,
    reward: float | None = None,
    finish: FinishReason = FinishReason.STOP,
    version: int = 0,
    num_tokens: int = 3,
) -> Outcome:
    """One rollout's outcome; the reward defaults to the sum of the components."""
    return Outcome(
        components=components,
        reward=sum(components.values()) if reward is None else reward,
        success=all(value == 1.0 for value in components.values()),
        finish_reason=finish,
        num_tokens=num_tokens,
        min_policy_version=version,
        max_policy_version=version,
    )


def outcomes(values: Sequence[float], *, name: str = "format", version: int = 0) -> list[Outcome]:
    """A group with one component, one value a rollout."""
    return [outcome({name: value}, version=version) for value in values]


def rolled_out(
    task_id: str, subtasks: Sequence[str], *, version: int, group_size: int = 4, skill: float = 0.5
) -> list[Outcome]:
    """What a policy of some skill does on a task at a version: the same whoever asks."""
    return [
        outcome(
            {
                name: float(chance(task_id, name, version, rollout) < skill)
                for name in subtasks or ("format",)
            },
            version=version,
        )
        for rollout in range(group_size)
    ]


def group(task_id: str, rollouts: Sequence[Outcome], **attempt: object) -> GroupReport:
    """One group of one attempt; `attempt` names scaffold_kind, scaffold_level, number."""
    made = Attempt.model_validate({"outcomes": list(rollouts), **attempt})
    return GroupReport(task_id=task_id, attempts=[made])


def report_of(
    batch: PromptBatch, *, skill: float = 0.5, group_size: int = 4, version: int | None = None
) -> Report:
    """A full JSON report of a batch, rolled out at the batch's version."""
    assert batch.lease is not None
    at = batch.policy_version if version is None else version
    return Report(
        fence=batch.lease.fence,
        groups=[
            group(
                item.task.id,
                rolled_out(
                    item.task.id,
                    item.task.subtasks,
                    version=at,
                    group_size=group_size,
                    skill=skill,
                ),
            )
            for item in batch.items
        ],
    )


def cargo(
    fence: int,
    task_id: str,
    values: Sequence[float] = (1.0, 0.0, 1.0, 0.0),
    *,
    version: int = 0,
    num_tokens: int = 8,
    name: str = "format",
    text: str | None = None,
) -> bytes:
    """A safetensors report of one group: `num_tokens` tokens a rollout, half of them sampled.

    `text` is what every rollout said.
    """
    rollouts = [
        outcome({name: value}, version=version, num_tokens=num_tokens - num_tokens // 2)
        for value in values
    ]
    report = Report(fence=fence, groups=[group(task_id, rollouts)])
    num = num_tokens * len(rollouts)
    mask_T = np.tile(np.arange(num_tokens) >= num_tokens // 2, len(rollouts)).astype(np.uint8)
    trajectories = GroupTrajectories(
        tokens_T=np.arange(num, dtype=np.int32),
        loss_mask_T=mask_T,
        logprobs_T=np.where(mask_T == 1, -0.5, 0.0).astype(np.float32),
        versions_T=np.where(mask_T == 1, version, -1).astype(np.int32),
        cu_seqlens=np.arange(0, num + 1, num_tokens, dtype=np.int32),
        texts=None if text is None else (text,) * len(rollouts),
    )
    return encode_group(trajectories, report)
