"""Load-time proof that the shortcuts of `model.py` and `batching.py` hold for a model.

Two are taken: the output layer is applied to hidden states directly (wrong for models that scale
or cap their logits), and rollouts of one prompt share a row (wrong for models that do not see the
past by plain full attention). The first is required; without the second rows are not shared.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from .batch import TokenSequence
from .batching import MicroBatch, build_micro_batch, token_table
from .errors import ModelError
from .layout import Row
from .model import Policy

TOLERANCE_NATS: Final = 1e-3
"""Largest difference of a log-probability in float32. The checks switch autocast off: in bfloat16
a real model's two layouts differ by up to .1 for no other reason than rounding."""

_PROMPT, _BRANCH = 12, 6


def _probe(policy: Policy) -> list[TokenSequence]:
    """Two sequences with a common prompt and different continuations, inside the vocabulary."""
    num_tokens = _PROMPT + _BRANCH
    trained_T = np.arange(num_tokens) >= _PROMPT
    zeros_T = np.zeros(num_tokens, dtype=np.float32)
    first = (np.arange(num_tokens, dtype=np.int32) * 7 + 3) % policy.vocab_size
    second = np.where(trained_T, (first * 5 + 1) % policy.vocab_size, first).astype(np.int32)
    return [TokenSequence(tokens, trained_T, zeros_T) for tokens in (first, second)]


def _micro_batch(policy: Policy, sequences: list[TokenSequence], rows: list[Row]) -> MicroBatch:
    table = token_table(sequences, torch.zeros(len(sequences)))
    return build_micro_batch(rows, sequences, table.offsets).to(policy.device)


def _exact(policy: Policy) -> Policy:
    """The same module, computed in float32."""
    config = policy.config.model_copy(update={"autocast": "none"})
    return Policy(policy.module, config, policy.device)


def check_head(policy: Policy, *, temperature: float) -> None:
    """Compare the split model with its own whole forward pass.

    Raises:
        ModelError: they differ; the model does more than apply its output layer.
    """
    policy = _exact(policy)
    sequences = _probe(policy)
    micro = _micro_batch(policy, sequences, [Row((0,), 0, _PROMPT + _BRANCH)])
    with torch.no_grad():
        ours, _ = policy.token_logprobs(micro)
        ids_BL = micro.ids_BL
        logits = policy.module(input_ids=ids_BL, use_cache=False).logits[0].float() / temperature
        theirs = logits.log_softmax(-1)[_PROMPT - 1 : -1].gather(1, ids_BL[0, _PROMPT:, None])
    gap = float((ours - theirs[:, 0]).abs().max())
    if not gap <= TOLERANCE_NATS:
        raise ModelError(
            f"{type(policy.module).__name__} changes logits after its output layer "
            f"(log-probabilities off by {gap:.3g} nats): not supported"
        )


def can_share_prompts(policy: Policy) -> bool:
    """Whether rows with several branches give the log-probabilities of separate sequences."""
    shape = policy.module.config.get_text_config()  # type: ignore[union-attr, operator]
    kinds = set(getattr(shape, "layer_types", None) or ["full_attention"])
    if getattr(shape, "sliding_window", None) is not None or kinds != {"full_attention"}:
        return False
    policy = _exact(policy)
    sequences = _probe(policy)
    num_tokens = _PROMPT + _BRANCH
    apart = [Row((0,), 0, num_tokens), Row((1,), 0, num_tokens)]
    together = [Row((0, 1), _PROMPT, num_tokens + _BRANCH)]
    try:
        with torch.no_grad():
            want, _ = policy.token_logprobs(_micro_batch(policy, sequences, apart))
            got, _ = policy.token_logprobs(_micro_batch(policy, sequences, together))
    except (RuntimeError, ValueError, TypeError):
        return False
    return bool((want - got).abs().max() <= TOLERANCE_NATS)
