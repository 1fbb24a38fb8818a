"""A rollout worker for trainer tests: real calls, a real (tiny) model, rewards by token numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from etude_client import EtudeClient
from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunLimits,
)

from .trajectories import pack, sample, share_below
from .workload import lines, task

GROUP_SIZE = 6
TRAINING_GROUPS = 4


def create_run(client: EtudeClient, name: str, *, num_tasks: int = 24) -> Run:
    """A dataset of made-up tasks with the sub-task `format`, and a training run on it."""
    dataset = client.create_dataset(DatasetCreate(name=f"{name}-tasks"))
    tasks = [task(number, subtasks=("format",)) for number in range(num_tasks)]
    client.import_tasks(dataset.id, lines(tasks).splitlines())
    return client.create_run(
        RunCreate(
            name=name,
            dataset_id=dataset.id,
            curriculum=CurriculumConfig(preset="uniform"),
            group_size=GROUP_SIZE,
            limits=RunLimits(
                training_batch_groups=TRAINING_GROUPS,
                max_group_bytes=1 << 20,
                max_staleness=2,
                lease_ttl_s=30.0,
            ),
        )
    )


class TinyWorker:
    """Rolls tasks out with the newest announced weights."""

    def __init__(self, client: EtudeClient, run_id: str, model_dir: Path) -> None:
        self.client = client
        self.run_id = run_id
        self.loaded: list[str] = []
        """Every URI loaded, in order."""
        self._model = AutoModelForCausalLM.from_pretrained(model_dir)

    def fill(self, num_tasks: int = TRAINING_GROUPS) -> int:
        """Lease tasks, roll them out, report them; how many groups."""
        request = PromptBatchRequest(num_tasks=num_tasks, worker="tiny", wait_s=1.0)
        batch = self.client.lease_prompt_batch(self.run_id, request)
        if batch.lease is None:
            return 0
        if batch.weights_uri is not None and batch.weights_uri not in self.loaded[-1:]:
            # Not `from_pretrained`, which two threads of one process must not call at once.
            self._model.load_state_dict(load_file(Path(batch.weights_uri) / "model.safetensors"))
            self.loaded.append(batch.weights_uri)
        for item in batch.items:
            seed = int(hashlib.sha256(f"{item.task.id}/{item.entry}".encode()).hexdigest()[:8], 16)
            with torch.random.fork_rng(devices=[]):
                prompt = [2 + (item.task.ordinal * 7 + n) % 500 for n in range(8)]
                lengths = [4 + (seed + j) % 5 for j in range(GROUP_SIZE)]
                rollouts = sample(self._model, prompt, lengths=lengths, seed=seed)
            body = pack(
                rollouts,
                task_id=item.task.id,
                reward=share_below(128),
                version=batch.policy_version,
                fence=batch.lease.fence,
            )
            self.client.report_groups(batch.lease.id, body)
        return len(batch.items)
