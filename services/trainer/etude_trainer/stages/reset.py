"""Reset: watches validation and KL, and makes the policy the new reference when they say so.

The detector is `algorithms/resets.py`. Its validation mean is the success rate of the run's control
arm, read from the sampler: slots drawn uniformly, counted before any gate and without scaffolds, so
that neither the curriculum nor the gate biases it (our choice; the paper has a validation set). Or
it is what evaluations of published versions found, if there are any (`validation.py`).
"""

from __future__ import annotations

import logging

from ..algorithms.resets import observe
from ..checkpoint import directory_name
from ..config import ResetsConfig
from ..parallel.team import Team
from .fetch import insist
from .settle import Site
from .supply import Work

logger = logging.getLogger(__name__)


def control_success(site: Site, *, num_versions: int) -> float | None:
    """Success rate of the control arm over the newest versions; None while there is none.

    Raises:
        Stopped: a stop was asked for while the sampler was away.
    """
    view = insist(
        lambda: site.client.get_curriculum(site.run_id, window=num_versions),
        board=site.board,
        stop=site.stop,
    )
    return None if view.arms_recent is None else view.arms_recent.control.success_rate.mean


def validation_mean(site: Site, config: ResetsConfig) -> float | None:
    """The measure that the configuration names; None while there is none. Raises as
    `control_success`."""
    if config.measure == "control_arm":
        return control_success(site, num_versions=config.validation_versions)
    newest = site.validation.newest
    return None if newest is None else newest.mean


def consider_reset(
    site: Site, team: Team, work: Work, *, metrics: dict[str, float]
) -> dict[str, float]:
    """Look at a step that was just trained; returns what to add to its metrics.

    Args:
        site: of the run.
        team: the learner, after the step.
        work: the batch that it was trained on.
        metrics: of the step.
    """
    learner = team.learner
    config, memory = learner.config.resets, learner.memory
    if not config.enabled:
        return {}
    validation = validation_mean(site, config)
    step = work.manifest.policy_version
    memory.resets, reason = observe(
        memory.resets,
        step=step,
        validation=validation,
        kl=metrics.get("kl_reference"),
        settings=config.settings(),
    )
    if reason is not None:
        name = directory_name(step + 1, work.lease.id)
        team.reset_reference(name)
        logger.warning("reference.reset", extra={"step": step, "reason": reason, "at": name})
    found = {"reference_reset": float(reason is not None)}
    return found if validation is None else {**found, "validation_mean": validation}
