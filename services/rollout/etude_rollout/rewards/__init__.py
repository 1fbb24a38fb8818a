"""Rewards: pure functions from a completion and a gold to components and a reward.

No clock, no randomness, no I/O. The worker and ``score.py`` call ``score_completion``; golds come
from ``gold_from_task``. ``toolrl_format.py`` alone knows the output format, ``gold_calls.py`` what
a right call is, ``matching.py`` and ``parts.py`` compare, ``config.py`` holds ToolRL's switches.
"""

from .config import MODES, SWITCHES, Bounds, Mode, RewardConfig, RewardConfigError, Switch
from .gold import Gold, GoldError, active_subtasks, counts, gold_from_task
from .scored import Scored, weighted_reward
from .scoring import score_completion
from .self_example import SelfExampleRules, is_self_example, token_jaccard

__all__ = [
    "MODES",
    "SWITCHES",
    "Bounds",
    "Gold",
    "GoldError",
    "Mode",
    "RewardConfig",
    "RewardConfigError",
    "Scored",
    "SelfExampleRules",
    "Switch",
    "active_subtasks",
    "counts",
    "gold_from_task",
    "is_self_example",
    "score_completion",
    "token_jaccard",
    "weighted_reward",
]
