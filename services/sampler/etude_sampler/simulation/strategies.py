"""The arms of a comparison by name: every preset, and two oracles that draw the best batch.

Neighbours: `curriculum` builds the parts, `truth` has the oracles' weights, `practice` runs an arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import PRESETS, Curriculum, build, lanes_by, resolve
from etude_sampler.statistics import Floats

from .standing import lanes_of
from .traits import FAMILIES
from .truth import expected_gain, success_variance
from .world import Skills, World

SUBTASKS = ("format", "tool_name", "param_name", "param_value")
"""The components of the simulated tasks, in order."""
BASELINE = "uniform"
"""The strategy that the others are compared with."""
ORACLES: Mapping[str, Callable[[World, Skills], Floats]] = MappingProxyType(
    {"oracle_success": success_variance, "oracle_gradient": expected_gain}
)
"""Arms that know the truth: p (1 - p) of success, and the expected gain. No floor: they bound."""
_ORACLE_PRESET = "learnability"


@dataclass(frozen=True, slots=True)
class Arm:
    """A curriculum under test."""

    name: str
    curriculum: Curriculum
    oracle: Callable[[World, Skills], Floats] | None = None
    """True value of all tasks; the best batch of them is drawn, whatever the weigher says."""


def strategy_names() -> list[str]:
    """All that can be simulated: the presets, then the oracles."""
    return [*PRESETS, *ORACLES]


def make_arm(name: str, *, group_size: int = 8, world: World | None = None, seed: int = 0) -> Arm:
    """The arm `name`.

    Args:
        name: a preset, or an oracle.
        group_size: G.
        world: the tasks; only lanes of levels depend on it (without it: all levels).
        seed: of the offline rollouts by which levels are known.

    Raises:
        KeyError: there is no such strategy.
    """
    preset = _ORACLE_PRESET if name in ORACLES else name
    if preset not in PRESETS:
        raise KeyError(name)
    config = CurriculumConfig(preset=preset)
    names = lanes_of(lanes_by(config), SUBTASKS, world, seed=seed)
    resolved = resolve(config, dataset_subtasks=names, sources=FAMILIES, group_size=group_size)
    if name in ORACLES:
        resolved = resolved.model_copy(update={"control_share": 0.0})
    return Arm(name, build(resolved), ORACLES.get(name))
