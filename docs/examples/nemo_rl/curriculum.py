"""NeMo RL with a curriculum: three calls in a copy of its `examples/run_grpo.py`.

    dataset = practise(dataset, config)          # before setup(...), which is given it
    follow(dataset, policy, grpo_state)          # after setup(...), before the trainer is called
    dataset.close()                              # in the end: the last reports arrive

and `data.num_workers=0` in the configuration.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from etude_client.adapters.nemo_rl import CurriculumDataset, Policy, Table


def practise(dataset: Table, config: Any) -> CurriculumDataset:  # noqa: ANN401  # a MasterConfig
    """The training data, in the order of the sampler."""
    grpo = config.grpo
    return CurriculumDataset(
        dataset,
        "nemo-rl",  # the run's name
        {"url": os.environ.get("ETUDE_SAMPLER_URL"), "preset": "dscl"},
        batch_size=int(grpo.num_prompts_per_step * grpo.batch_multiplier),
        group_size=grpo.num_generations_per_prompt,
    )


def follow(dataset: CurriculumDataset, policy: Policy, state: Any) -> None:  # noqa: ANN401
    """Report what `grpo_train` generates, and count its steps; `state` is what `setup` returned."""
    grpo: Any = import_module("nemo_rl.algorithms.grpo")
    dataset.attach(grpo, policy, steps_made=state.total_steps)
