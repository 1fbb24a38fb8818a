"""Tables of how a step runs: sizes, precision, what is kept on disk.

Part of `TrainingConfig` (`__init__.py`).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from .learning import Positive, Table


class BatchConfig(Table):
    """`[batch]`: how much is leased, and how it is cut into updates and passes."""

    num_groups: int = Field(default=0, ge=0, le=4096)
    """Groups to lease for a step; 0 is the run's own number."""
    mini_batch_groups: int = Field(default=0, ge=0)
    """Groups of one optimizer update; 0 is the whole batch."""
    inner_epochs: int = Field(default=1, ge=1, le=64)
    """Passes over a batch."""
    micro_batch_tokens: int = Field(default=2048, ge=64)
    """Most tokens, padding included, of one forward and backward pass: memory grows with it. A
    135M model takes about 2.3 MB of activations a token."""
    share_prompts: bool = True
    """Compute a prompt once for several of its rollouts, where the model allows it."""
    lease_ttl_s: float = Field(default=60.0, ge=1.0, le=7200.0)
    """Time to live of a batch's lease between heartbeats."""
    wait_s: float = Field(default=5.0, ge=0.0, le=30.0)
    """Long poll for a batch; also the longest that a stop waits for one."""


class ModelConfig(Table):
    """`[model]`: how the model is computed."""

    autocast: Literal["none", "bfloat16"] = "none"
    """Precision of the passes; the weights that are trained stay float32 either way."""
    head_float32: bool = True
    """Compute the output layer in float32 under autocast: bfloat16 logits are off by up to .1."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    attention: Literal["auto", "rows", "lines"] = "auto"
    """`rows`: sequences of similar length, padded. `lines`: end to end without padding, pairs that
    do not see each other skipped; for CUDA, elsewhere slower. `auto`: lines on CUDA from Ampere on,
    if a check at the start finds the same log-probabilities and gradients, else rows."""
    logits_elements: int = Field(default=1 << 25, ge=1 << 12)
    """Most logits (tokens x vocabulary) held at a time."""
    temperature: Positive = 1.0
    """Sampling temperature of the rollouts: their log-probabilities are of the tempered
    distribution, so ours must be too."""


class PublishConfig(Table):
    """`[publish]`: what is kept on disk."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of published weights. bfloat16 halves them, but swallows small updates."""
    keep_checkpoints: int = Field(default=2, ge=2, le=1000)
    """Model checkpoints kept; the one before the last is what a lost lease goes back to."""
    probe_sequences: int = Field(default=4, ge=1, le=64)
    """Sequences of the parity probe, the first of different groups."""
    probe_tokens: int = Field(default=64, ge=2, le=4096)
    """Tokens of each probe sequence."""


class ValidationConfig(Table):
    """`[validation]`: evaluations of published versions (`etude-rollout eval --run`), read from
    `ETUDE_VALIDATION_DIR`."""

    every_steps: int = Field(default=0, ge=0)
    """Keep the published weights of versions that are a multiple of this until they were
    evaluated, two of them at most; 0 keeps none. Evaluations are drawn whenever they are there."""


class OverlapConfig(Table):
    """`[overlap]`: what goes on beside a step."""

    enabled: bool = False
    """Lease and decode the next batch while the current one trains, and write, publish and ack a
    step while the next one trains: a step stalls for a copy of the weights and moments only. Its
    batches were leased a version earlier; a run with `max_staleness` 0 cannot have it."""


class ProfilerConfig(Table):
    """`[profiler]`: traces of some steps, in `profiles/` of the run's folder."""

    first_step: int = Field(default=0, ge=0)
    """First step of this process that is traced, from 1; 0 is no profile."""
    last_step: int = Field(default=0, ge=0)
    """Last one; a trace grows by some 10 MB a step."""
    memory: bool = False
    """Record allocations and shapes as well: slower, larger."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_step < self.first_step:
            raise ValueError("last_step must not come before first_step")
        return self


class ParallelConfig(Table):
    """`[parallel]`: many ranks under `torchrun`; one process ignores it."""

    replicas: int = Field(default=1, ge=1, le=4096)
    """1: parameters are sharded over all ranks (FSDP2). n: over ranks / n of them, n times (HSDP):
    a node each, where the network between nodes is slow."""
    gather: Literal["float32", "bfloat16"] = "float32"
    """Type in which a layer's parameters travel to their passes. bfloat16 halves the traffic; needs
    `model.autocast`. Gradients are summed in float32 either way."""


class LoraConfig(Table):
    """`[lora]`: train a small adapter instead of the model (peft)."""

    rank: int = Field(default=0, ge=0, le=512)
    """Rank of the adapter's matrices; 0 trains the model itself."""
    alpha: Positive = 16.0
    """The adapter's output is scaled by alpha / rank."""
    targets: tuple[str, ...] = Field(
        default=(
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ),
        min_length=1,
    )
    """Names of the linear layers that get one."""
    base: Literal["float32", "bfloat16"] = "float32"
    """Type of those layers' own, frozen weights; bfloat16 needs `model.autocast`."""
    publish: Literal["merged", "adapter"] = "merged"
    """`merged`: whole weights, for every channel and engine; `adapter`: peft's directory, for
    engines that load adapters while they run."""

    @property
    def scale(self) -> float:
        """Of the adapter's output."""
        return self.alpha / self.rank
