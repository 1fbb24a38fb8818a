"""Steps that contract tests share: a small dataset, a report, its cargo."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from etude_proto.tensors import GroupTrajectories, encode_group
from etude_proto.v1 import (
    Attempt,
    FinishReason,
    GroupReport,
    Lease,
    Message,
    Outcome,
    Report,
    RunLimits,
    TaskCreate,
)
from etude_proto.v1.tasks import ToolRLReference

GROUP_SIZE = 2
LIMITS = RunLimits(
    training_batch_groups=1, max_group_bytes=1 << 16, cargo_bytes=1 << 20, cap_groups=8
)


def tasks(count: int) -> Iterator[bytes]:
    """NDJSON lines."""
    for number in range(count):
        message = Message(role="user", content=f"What is {number} + {number}?")
        gold = ToolRLReference(text=f"<think> add </think>\n<response> {2 * number} </response>")
        task = TaskCreate(
            messages=[message], reference=gold, subtasks=["format", "answer"], source="sums"
        )
        yield task.model_dump_json().encode()


def report_for(lease: Lease, task_id: str, version: int) -> Report:
    """One rollout right, one wrong: an informative group."""
    outcomes = [
        Outcome(
            components={"format": 1.0, "answer": float(right)},
            reward=1.0 + right,
            success=bool(right),
            finish_reason=FinishReason.STOP,
            num_tokens=3,
            min_policy_version=version,
            max_policy_version=version,
        )
        for right in range(GROUP_SIZE)
    ]
    group = GroupReport(task_id=task_id, attempts=[Attempt(outcomes=outcomes)])
    return Report(fence=lease.fence, groups=[group])


def cargo_for(report: Report, version: int) -> bytes:
    """The report with five tokens a rollout, three of them sampled."""
    mask = np.tile(np.array([0, 0, 1, 1, 1], dtype=np.uint8), GROUP_SIZE)
    group = GroupTrajectories(
        tokens_T=np.arange(5 * GROUP_SIZE, dtype=np.int32),
        loss_mask_T=mask,
        logprobs_T=np.where(mask == 1, -0.7, 0.0).astype(np.float32),
        versions_T=np.where(mask == 1, version, -1).astype(np.int32),
        cu_seqlens=np.arange(GROUP_SIZE + 1, dtype=np.int32) * 5,
    )
    return encode_group(group, report)
