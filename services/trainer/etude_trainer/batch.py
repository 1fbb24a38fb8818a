"""From cargo to groups: the sequences and rewards of a training batch, checked against the model.

Input is a frame as the client decoded it; output is read by `stages/learn.py` and `layout.py`.
Infrastructure failures are dropped here: they say nothing of the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from etude_proto.cargo import CargoError
from etude_proto.tensors import SPAN_COMPONENTS, GroupTrajectories, decode_group
from etude_proto.v1 import Attempt, CargoRef, FinishReason, TrainingBatch

from .algorithms.branches import roots_of
from .errors import ModelMismatch


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One rollout as the trainer sees it: T tokens, some of them trained."""

    tokens_T: NDArray[np.int32]
    trained_T: NDArray[np.bool_]
    """Where the policy produced the token; never at position 0, which nothing predicts."""
    lp_rollout_T: NDArray[np.float32]
    """Log-probability that the engine reported, in nats; 0 where not trained."""
    spans_T: NDArray[np.uint8] | None = None
    """Which reward component a token belongs to (`etude_proto.tensors.SPAN_COMPONENTS`)."""
    lag_T: NDArray[np.int32] | None = None
    """Policy versions between the batch and the token; 0 where not trained."""

    @property
    def num_trained(self) -> int:
        """Tokens with a loss."""
        return int(self.trained_T.sum())

    @property
    def first_trained(self) -> int:
        """Position of the first token with a loss."""
        return int(np.argmax(self.trained_T))


@dataclass(frozen=True, slots=True)
class Group:
    """The valid rollouts of one task."""

    task_id: str
    lane: str
    staleness: int
    """Versions between the batch and the group's oldest token."""
    rewards_G: tuple[float, ...]
    """R plus shaping: what the advantage is made of."""
    rule_rewards_G: tuple[float, ...]
    """R alone, for the metrics."""
    successes_G: tuple[bool, ...]
    components: dict[str, float]
    """Mean of every raw reward component over the rollouts."""
    sequences: tuple[TokenSequence | None, ...]
    """[G]; None where a rollout has no token to train on: it counts in the group's mean only."""
    components_G: tuple[dict[str, float], ...] = ()
    """Raw reward components of every rollout."""
    component_weights: dict[str, float] = field(default_factory=dict)
    """w of the lease under which the group was rolled out; what is not there counts as 1."""
    roots_G: tuple[int, ...] = ()
    """The rollout that each goes back to; itself for roots; empty: all are roots."""
    truncated_G: tuple[bool, ...] = ()
    """Whether a rollout was cut off at the longest completion; empty: none was."""
    lengths_G: tuple[int, ...] = ()
    """Trained tokens of every rollout, also of those that left the loss; empty: of `sequences`."""

    @property
    def num_trained_G(self) -> tuple[int, ...]:
        """Trained tokens of every rollout, whether it is in the loss or not."""
        if self.lengths_G:
            return self.lengths_G
        return tuple(0 if one is None else one.num_trained for one in self.sequences)

    def without_truncated(self) -> Group:
        """The same, with the rollouts that were cut off out of the loss but in the mean."""
        if not any(self.truncated_G):
            return self
        kept = [
            None if is_cut else sequence
            for sequence, is_cut in zip(self.sequences, self.truncated_G, strict=True)
        ]
        return replace(self, sequences=tuple(kept), lengths_G=self.num_trained_G)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """The groups of a training batch that can be trained on."""

    groups: tuple[Group, ...]
    refused: tuple[str, ...]
    """Why groups were left out, one line each."""


def _sequences(
    cargo: GroupTrajectories, valid_G: list[bool], *, version: int
) -> tuple[TokenSequence | None, ...]:
    found: list[TokenSequence | None] = []
    for j, valid in enumerate(valid_G):
        if not valid:
            continue
        part = slice(int(cargo.cu_seqlens[j]), int(cargo.cu_seqlens[j + 1]))
        trained_T = cargo.loss_mask_T[part] == 1
        trained_T[0] = False
        sequence = TokenSequence(
            tokens_T=cargo.tokens_T[part],
            trained_T=trained_T,
            lp_rollout_T=np.where(trained_T, cargo.logprobs_T[part], np.float32(0.0)),
            spans_T=None if cargo.spans_T is None else cargo.spans_T[part],
            lag_T=np.where(trained_T, version - cargo.versions_T[part], np.int32(0)),
        )
        found.append(sequence if sequence.num_trained else None)
    return tuple(found)


def _component_means(attempt: Attempt, valid_G: list[bool]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for outcome, valid in zip(attempt.outcomes, valid_G, strict=True):
        for name, value in outcome.components.items() if valid else ():
            values.setdefault(name, []).append(value)
    return {name: float(np.mean(found)) for name, found in sorted(values.items())}


def _by_role(attempt: Attempt, valid_G: list[bool]) -> list[list[bool]]:
    """Which rollouts are compared with each other: the valid ones, by role, two or more of a kind.

    Roles are those of the reflect scaffold; elsewhere all rollouts have none.
    """
    pairs = list(zip(attempt.outcomes, valid_G, strict=True))
    roles = dict.fromkeys(outcome.role for outcome, is_valid in pairs if is_valid)
    found = [[is_valid and outcome.role == role for outcome, is_valid in pairs] for role in roles]
    return [chosen_G for chosen_G in found if sum(chosen_G) >= 2]


def _group(
    manifest: TrainingBatch,
    ref: CargoRef,
    cargo: GroupTrajectories,
    attempt: Attempt,
    chosen_G: list[bool],
) -> Group:
    """The chosen rollouts of a group."""
    chosen = [o for o, is_chosen in zip(attempt.outcomes, chosen_G, strict=True) if is_chosen]
    return Group(
        task_id=ref.task_id,
        lane=ref.lane,
        staleness=max(0, manifest.policy_version - ref.min_policy_version),
        rewards_G=tuple(outcome.reward + outcome.shaping for outcome in chosen),
        rule_rewards_G=tuple(outcome.reward for outcome in chosen),
        successes_G=tuple(outcome.success for outcome in chosen),
        components=_component_means(attempt, chosen_G),
        sequences=_sequences(cargo, chosen_G, version=manifest.policy_version),
        components_G=tuple(dict(outcome.components) for outcome in chosen),
        component_weights=dict(cargo.component_weights or {}),
        roots_G=_roots(cargo, chosen_G),
        truncated_G=tuple(outcome.finish_reason is FinishReason.LENGTH for outcome in chosen),
    )


def _roots(cargo: GroupTrajectories, chosen_G: list[bool]) -> tuple[int, ...]:
    """Roots of the chosen rollouts; branches of one that was not chosen stay a family."""
    if cargo.parent_G is None:
        return ()
    roots = roots_of(cargo.parent_G.tolist())
    return tuple(root for root, chosen in zip(roots, chosen_G, strict=True) if chosen)


def _version_fault(
    manifest: TrainingBatch, ref: CargoRef, cargo: GroupTrajectories, valid_G: list[bool]
) -> str | None:
    """What is wrong with the versions of the valid rollouts' sampled tokens, if anything is.

    The sampler bounds staleness by what the report said; tokens that are older, or of a version
    that there is not yet, would get past it.
    """
    valid_T = np.repeat(np.array(valid_G), np.diff(cargo.cu_seqlens))
    sampled_n = cargo.versions_T[(cargo.loss_mask_T == 1) & valid_T]
    if not len(sampled_n):
        return None
    oldest, newest = int(sampled_n.min()), int(sampled_n.max())
    if newest > manifest.policy_version:
        return f"a token of version {newest} in a batch of version {manifest.policy_version}"
    if oldest < ref.min_policy_version:
        return f"a token of version {oldest}, the report's oldest is {ref.min_policy_version}"
    return None


def decode_batch(
    manifest: TrainingBatch, bodies: Sequence[bytes], *, vocab_size: int
) -> DecodedBatch:
    """Groups of a training batch, in manifest order.

    A body that is damaged, whose tokens are of other versions than reported, or that leaves fewer
    than two valid rollouts, is left out and named: it would be no better when leased again.

    Raises:
        ModelMismatch: a token that the model does not have; the trainer runs the wrong model.
    """
    groups: list[Group] = []
    refused: list[str] = []
    for ref, body in zip(manifest.groups, bodies, strict=True):
        try:
            cargo, report = decode_group(body)
        except (CargoError, ValidationError) as error:
            refused.append(f"{ref.task_id}: {error}")
            continue
        if int(cargo.tokens_T.max()) >= vocab_size:
            raise ModelMismatch(
                f"task {ref.task_id} holds token {int(cargo.tokens_T.max())}, "
                f"the model's vocabulary ends at {vocab_size}"
            )
        if cargo.spans_T is not None and int(cargo.spans_T.max()) > len(SPAN_COMPONENTS):
            refused.append(f"{ref.task_id}: spans name a component that there is not")
            continue
        attempt = report.groups[0].attempts[-1]
        valid_G = [outcome.finish_reason.is_valid for outcome in attempt.outcomes]
        if sum(valid_G) < 2:
            refused.append(f"{ref.task_id}: fewer than two valid rollouts")
            continue
        fault = _version_fault(manifest, ref, cargo, valid_G)
        if fault is not None:
            refused.append(f"{ref.task_id}: {fault}")
            continue
        try:
            for chosen_G in _by_role(attempt, valid_G):
                groups.append(_group(manifest, ref, cargo, attempt, chosen_G))
        except ValueError as error:
            refused.append(f"{ref.task_id}: {error}")
    return DecodedBatch(tuple(groups), tuple(refused))
