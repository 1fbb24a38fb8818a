"""SkyRL with a curriculum: its own entry point, with one call where the trainer is made.

Everything else is SkyRL's, options included. Run it where skyrl and etude-proto are installed:

    python train.py trainer.policy.model.path=... data.train_data="['train.parquet']" ...
"""

from __future__ import annotations

import os
import sys

import ray
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import validate_cfg
from skyrl.train.utils.utils import initialize_ray

from etude_client.adapters.skyrl import add_curriculum


class CurriculumExp(BasePPOExp):  # type: ignore[misc]  # skyrl has no types
    """SkyRL's experiment, whose trainer practises what the sampler says."""

    def get_trainer(self, *args: object, **more: object) -> RayPPOTrainer:
        """The trainer, with the curriculum."""
        trainer = super().get_trainer(*args, **more)
        add_curriculum(
            trainer,
            "skyrl",  # the run's name
            {"url": os.environ.get("ETUDE_SAMPLER_URL"), "preset": "dscl"},
        )
        return trainer


@ray.remote(num_cpus=1)
def train(cfg: SkyRLTrainConfig) -> None:
    """Train, off the head node as SkyRL does."""
    CurriculumExp(cfg).run()


if __name__ == "__main__":
    config = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(config)
    initialize_ray(config)
    ray.get(train.remote(config))
