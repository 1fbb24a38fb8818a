"""Save: the checkpoint of a step, with the parity probe and the ack that is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from ..checkpoint import Captured, Checkpoint, CheckpointState, Target
from ..parallel.team import Team
from ..parity import Parity, probe_tokens
from .reset import consider_reset
from .settle import Site
from .supply import Work
from .tally import reportable

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types of published weights by their name in the configuration."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A trained step, off the learner: what its checkpoint is written from."""

    target: Target
    captured: Captured
    parity: Parity

    def write(self) -> Checkpoint:
        """Write the checkpoint."""
        try:
            return self.target.write(self.captured, self.parity)
        finally:
            self.target.abandon()


def prepare_step(
    site: Site, team: Team, work: Work, *, metrics: dict[str, float], copies: bool
) -> Prepared:
    """Reset the reference if it is time, measure the probe and take the learner's state.

    Args:
        site: where the checkpoint goes.
        team: the learner, after the step.
        work: the batch that it was trained on.
        metrics: of the step.
        copies: the learner goes on before the checkpoint is written.
    """
    manifest, config = work.manifest, team.learner.config
    metrics = metrics | consider_reset(site, team, work, metrics=metrics)
    version = manifest.policy_version + 1
    probe = probe_tokens(
        work.batch.groups,
        num_sequences=config.publish.probe_sequences,
        num_tokens=config.publish.probe_tokens,
    )
    parity = team.measure(probe, policy_version=version, dtype=DTYPES[config.publish.dtype])
    counted = {
        **metrics,
        "num_groups_refused": float(len(work.batch.refused)),
        "num_groups_drawn": float(manifest.num_groups_drawn),
        "degraded": float(manifest.degraded),
    }
    state = CheckpointState(
        policy_version=version,
        lease_id=work.lease.id,
        fence=work.lease.fence,
        weights_uri=site.channel.uri(version, work.lease.id),
        metrics=reportable(counted),
        run_id=site.run_id,
        takes_curriculum=config.resume == "exact",
        resets=team.learner.memory.resets,
        reference=team.learner.memory.reference,
    )
    target = site.store.begin(state)
    try:
        in_parts = not (team.crew.is_alone or team.learner.policy.is_adapter)
        captured = team.capture(target.shards if in_parts else None, copies=copies)
    except BaseException:
        target.abandon()
        raise
    return Prepared(target, captured, parity)
