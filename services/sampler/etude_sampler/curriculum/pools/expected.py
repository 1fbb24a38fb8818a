"""What success a pool may expect of a task: posted, its own, or one half. Used by `pcl`, `adarft`.

The order is ours: a posted prediction, else the moving average of the task's own success, else .5.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.curriculum.candidates import Candidates
from etude_sampler.statistics import Floats


def expected_success(candidates: Candidates) -> Floats:
    """[N] in [0, 1]; never nan."""
    stats, posted_N = candidates.stats, candidates.prediction_N
    own_N = np.where(stats.n_N > 0, stats.ema_N, 0.5)
    return np.where(np.isnan(posted_N), own_N, posted_N)
