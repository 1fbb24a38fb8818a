"""prime-rl with a curriculum: one call in its orchestrator's setup, where the train source and the
watcher's observers were made, before the checkpoint is loaded:

    practise(train_source, observers, config)
"""

from __future__ import annotations

import os
from typing import Any

from etude_client.adapters.prime_rl import CurriculumSampler


def practise(train_source: Any, observers: list[Any], config: Any) -> None:  # noqa: ANN401
    """Every environment with a list of tasks gets a run of its own."""
    for env in train_source.envs:
        sampler: CurriculumSampler[Any] = CurriculumSampler(
            env.tasks,
            [str(task.data.prompt) for task in env.tasks],
            f"prime-rl-{env.name}",  # the run's name
            {"url": os.environ.get("ETUDE_SAMPLER_URL"), "preset": "dscl"},
            group_size=env.config.group_size,
            num_groups=config.max_inflight_episodes // env.config.group_size,
            max_off_policy_steps=config.max_off_policy_steps,
        )
        train_source.curricula[env.name].sampler = sampler
        observers.append(sampler)
