"""What a group of a task would show now: an online item-response model (our choice).

Abilities move with every policy version, difficulties of tasks stay. `heads` says what is
predicted, `visits` what is remembered of a task, `difficulty` what follows from it for the task,
`ability` is the regression on features that every version moves, `design` its inputs, `model` joins
them. Neighbour: `weighers.etude`, which draws by it.
"""

from __future__ import annotations

from .ability import Ability, Drift
from .design import Design, make_design
from .difficulty import Spreads
from .heads import Heads, Joint, make_heads
from .model import Evidence, Model, Prediction, group_evidence, task_evidence
from .visits import VISITS

__all__ = [
    "VISITS",
    "Ability",
    "Design",
    "Drift",
    "Evidence",
    "Heads",
    "Joint",
    "Model",
    "Prediction",
    "Spreads",
    "group_evidence",
    "make_design",
    "make_heads",
    "task_evidence",
]
