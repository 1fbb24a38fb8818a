"""Throughput: tokens a second, floating-point operations of a step, and the share of the peak.

Pure functions of counts and of a model's configuration: no clock, no device. `batching.py` counts
what a pass computes, the loop measures the seconds, the metrics and `tests/bench/gpu.py` show it.

Operations are those of the model, as in PaLM (2204.02311, appendix B): a multiply-add is two, a
backward pass is two forward passes, and what activation checkpointing computes again is not
counted. Two choices are ours: a prompt that several rollouts share counts once, as it is computed
once, and the output layer counts where a token is trained, because it runs nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

PEAK_BFLOAT16_FLOPS: Final[dict[str, float]] = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 operations a second by the makers' data sheets, by words of the device's name; the
first that fits counts, so that a variant stands before its family."""


class TextShape(Protocol):
    """What is read of a `transformers` text configuration."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Multiply-adds of one forward pass."""

    per_token: float
    """Of a position in the layers, attention's pairs apart: their parameters."""
    per_pair: float
    """Of one position that looks at another, in all layers: scores and values."""
    per_trained: float
    """Of a trained token in the output layer: vocabulary times hidden size."""


@dataclass(frozen=True, slots=True)
class PassWork:
    """What passes compute; sums of counts."""

    num_tokens: int = 0
    """Positions, without padding; a shared prompt once."""
    num_padded: int = 0
    """Positions with padding: what the device is given."""
    num_pairs: int = 0
    """Positions that look at another, themselves included."""
    num_trained: int = 0
    """Trained tokens."""

    def __add__(self, other: PassWork) -> PassWork:
        return PassWork(
            self.num_tokens + other.num_tokens,
            self.num_padded + other.num_padded,
            self.num_pairs + other.num_pairs,
            self.num_trained + other.num_trained,
        )

    @property
    def padding_share(self) -> float:
        """Padding over all positions; 0 where there are none."""
        return 1.0 - self.num_tokens / self.num_padded if self.num_padded else 0.0


def attention_width(shape: TextShape) -> int:
    """Query heads times their size."""
    size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    return int(shape.num_attention_heads) * int(size)


def model_cost(shape: TextShape, *, layer_parameters: int, vocab_size: int) -> ModelCost:
    """Costs of a decoder.

    Args:
        layer_parameters: parameters of the layers that every token passes: all but the embedding
            table and the output layer. Of experts, those that a token visits.
        vocab_size: rows of the output layer.
    """
    return ModelCost(
        per_token=float(layer_parameters),
        per_pair=2.0 * shape.num_hidden_layers * attention_width(shape),
        per_trained=float(vocab_size) * shape.hidden_size,
    )


def forward_flops(cost: ModelCost, work: PassWork) -> float:
    """Operations of a forward pass over `work`."""
    return 2.0 * (
        cost.per_token * work.num_tokens
        + cost.per_pair * work.num_pairs
        + cost.per_trained * work.num_trained
    )


def training_flops(cost: ModelCost, work: PassWork) -> float:
    """Operations of a forward and a backward pass over `work`."""
    return 3.0 * forward_flops(cost, work)


def per_second(amount: float, seconds: float) -> float:
    """`amount / seconds`; 0 where no time passed."""
    return amount / seconds if seconds > 0.0 else 0.0


def utilisation(flops: float, *, seconds: float, peak: float | None, num_devices: int = 1) -> float:
    """Share of the devices' peak (MFU) in [0, 1]; 0 where the peak is not known.

    The peak is that of bfloat16 whatever the passes run in: float32 cannot come near 1.
    """
    if peak is None or peak <= 0.0:
        return 0.0
    return per_second(flops, seconds) / (peak * num_devices)


def peak_flops(device_name: str) -> float | None:
    """Operations a second of a device by its name; null where the table has none."""
    for name, peak in PEAK_BFLOAT16_FLOPS.items():
        if re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", device_name):
            return peak
    return None
