"""A training batch of 512 sequences x 512 tokens, end to end over HTTP, timed by curl.

    .venv/bin/python tests/bench/training_batch.py [--rounds 20]

Sixty-four groups of eight rollouts are reported with their trajectories; then one
`POST .../training-batches` leases them, reads them from Valkey and sends the frame.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import uuid
from pathlib import Path

import numpy as np
from stack import fill, machine, serving

from etude_client import EtudeClient
from etude_proto.cargo import unpack_frame
from etude_proto.tensors import GroupTrajectories, encode_group
from etude_proto.v1 import (
    AckRequest,
    Attempt,
    FinishReason,
    GroupReport,
    Outcome,
    PromptBatch,
    PromptBatchRequest,
    Report,
    RunLimits,
    RunMode,
)

GROUPS, ROLLOUTS, TOKENS = 64, 8, 512


def cargo(batch: PromptBatch, i: int, rng: np.random.Generator) -> bytes:
    """One group's body: eight rollouts of 512 tokens, a quarter of them prompt."""
    assert batch.lease is not None
    total = ROLLOUTS * TOKENS
    mask = np.tile((np.arange(TOKENS) >= TOKENS // 4).astype(np.uint8), ROLLOUTS)
    version = batch.policy_version
    outcomes = [
        Outcome(
            components={"format": float(j % 2)},
            reward=float(j % 2),
            success=bool(j % 2),
            finish_reason=FinishReason.STOP,
            num_tokens=TOKENS - TOKENS // 4,
            min_policy_version=version,
            max_policy_version=version,
        )
        for j in range(ROLLOUTS)
    ]
    group = GroupReport(task_id=batch.items[i].task.id, attempts=[Attempt(outcomes=outcomes)])
    trajectories = GroupTrajectories(
        tokens_T=rng.integers(0, 49152, total, dtype=np.int32),
        loss_mask_T=mask,
        logprobs_T=np.where(mask == 1, -rng.random(total), 0.0).astype(np.float32),
        versions_T=np.where(mask == 1, version, -1).astype(np.int32),
        cu_seqlens=np.arange(0, total + 1, TOKENS, dtype=np.int32),
    )
    return encode_group(trajectories, Report(fence=batch.lease.fence, groups=[group]))


def main() -> None:
    """Measure and print the median, the range and the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    took_ms: list[float] = []
    size = 0
    limits = RunLimits(training_batch_groups=GROUPS, max_group_bytes=1 << 20)
    with serving(1) as stack, EtudeClient(stack.url) as client:
        run = fill(stack, 2000, task_bytes=500, mode=RunMode.TRAINING, limits=limits)
        for version in range(1, rounds + 1):
            batch = client.lease_prompt_batch(
                run.id, PromptBatchRequest(num_tasks=GROUPS, worker="bench")
            )
            assert batch.lease is not None
            for i in range(GROUPS):
                client.report_groups(batch.lease.id, cargo(batch, i, rng))
            with tempfile.NamedTemporaryFile() as out:
                command = ["curl", "-s", "-o", out.name, "-w", "%{time_total}", "-X", "POST"]
                headers = ["-H", "Content-Type: application/json"]
                headers += ["-H", f"Idempotency-Key: {uuid.uuid4().hex}"]
                url = f"{stack.url}/v1/runs/{run.id}/training-batches"
                body = ["-d", '{"trainer":"bench","wait_s":5}', url]
                done = subprocess.run(
                    [*command, *headers, *body], check=True, text=True, stdout=subprocess.PIPE
                )
                frame = Path(out.name).read_bytes()
            manifest, bodies = unpack_frame(frame)
            assert manifest.lease is not None
            assert len(list(bodies)) == GROUPS
            took_ms.append(float(done.stdout) * 1000)
            size = len(frame)
            client.ack_training_batch(
                manifest.lease.id,
                AckRequest(
                    fence=manifest.lease.fence, policy_version=version, weights_uri="file:///none"
                ),
            )
    print(
        json.dumps(
            {
                "machine": machine(),
                "sequences": GROUPS * ROLLOUTS,
                "tokens_each": TOKENS,
                "megabytes": round(size / 1e6, 2),
                "median_ms": round(statistics.median(took_ms), 1),
                "min_ms": round(min(took_ms), 1),
                "max_ms": round(max(took_ms), 1),
                "rounds": rounds,
            }
        )
    )


if __name__ == "__main__":
    main()
