"""Save: the checkpoint of a step, with the parity probe and the ack that is due."""

from __future__ import annotations

from typing import Final

import torch

from etude_client.call import TrainingFrame

from ..batch import DecodedBatch
from ..checkpoint import Checkpoint, CheckpointState
from ..parallel.team import Team
from ..parity import probe_tokens
from ..status import Stage
from .settle import Site
from .tally import reportable

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types of published weights by their name in the configuration."""


def save_step(
    site: Site,
    team: Team,
    *,
    frame: TrainingFrame,
    batch: DecodedBatch,
    metrics: dict[str, float],
) -> Checkpoint:
    """Write the checkpoint of a trained batch; its metrics gain the stages' times so far."""
    manifest, publish = frame.manifest, team.learner.config.publish
    assert manifest.lease is not None
    version = manifest.policy_version + 1
    probe = probe_tokens(
        batch.groups, num_sequences=publish.probe_sequences, num_tokens=publish.probe_tokens
    )
    dtype = DTYPES[publish.dtype]
    parity = team.measure(probe, policy_version=version, dtype=dtype)
    seconds = site.board.spent()
    train_s = seconds.get(Stage.TRAIN, 0.0)
    timed = {
        **metrics,
        "num_groups_refused": float(len(batch.refused)),
        "num_groups_drawn": float(manifest.num_groups_drawn),
        "degraded": float(manifest.degraded),
        "seconds_fetch": seconds.get(Stage.FETCH, 0.0),
        "seconds_train": train_s,
        "tokens_per_s": metrics.get("num_tokens", 0.0) / train_s if train_s > 0 else 0.0,
    }
    state = CheckpointState(
        policy_version=version,
        lease_id=manifest.lease.id,
        fence=manifest.lease.fence,
        weights_uri=site.channel.uri(version, manifest.lease.id),
        metrics=reportable(timed),
        run_id=site.run_id,
        takes_curriculum=team.learner.config.resume == "exact",
    )
    with site.store.begin(state) as target:
        captured = team.capture(None if team.crew.is_alone else target.shards)
        return target.write(captured, parity)
