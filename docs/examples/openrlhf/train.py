"""OpenRLHF with a curriculum: its own command line, with one call at the end of its trainer's
`__init__`, and one at the end of `fit`. Run it where openrlhf and etude-proto are installed, with
OpenRLHF's options:

    python train.py --actor.model_name_or_path ... --data.prompt_dataset prompts.jsonl ...
"""

from __future__ import annotations

import os
import runpy

import ray
from openrlhf.trainer import ppo_trainer

from etude_client.adapters.openrlhf import add_curriculum

# What ray made an actor of.
Trainer = ppo_trainer.PPOTrainer.__ray_metadata__.modified_class.__ray_actor_class__


class CurriculumTrainer(Trainer):  # type: ignore[misc,valid-type]  # it has no types
    """OpenRLHF's trainer, which practises what the sampler says."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)
        self.curriculum = add_curriculum(
            self,
            "openrlhf",  # the run's name
            {"url": os.environ.get("ETUDE_SAMPLER_URL"), "preset": "dscl"},
        )

    def fit(self, global_step: int = 0) -> None:
        """Train, and let the last reports arrive."""
        try:
            super().fit(global_step)
        finally:
            self.curriculum.close()


if __name__ == "__main__":
    ppo_trainer.PPOTrainer = ray.remote(CurriculumTrainer)
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
