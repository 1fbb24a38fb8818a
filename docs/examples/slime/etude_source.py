"""slime with a curriculum: a data source, and the function that reports. Two options name them,
with this folder on PYTHONPATH; everything else is slime's:

    python train.py ... --data-source-path etude_source.DataSource \
        --rollout-all-samples-process-path etude_source.report_groups
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from etude_client.adapters.slime import CurriculumDataSource, report_groups

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["DataSource", "report_groups"]


class DataSource(CurriculumDataSource[Any]):
    """slime's prompts in the order of the sampler."""

    def __init__(self, args: Namespace) -> None:
        from slime.rollout.data_source import RolloutDataSource

        super().__init__(
            args,
            RolloutDataSource(args).dataset.samples,  # read, filtered and templated by slime
            "slime",  # the run's name
            {"url": os.environ.get("ETUDE_SAMPLER_URL"), "preset": "dscl"},
        )
