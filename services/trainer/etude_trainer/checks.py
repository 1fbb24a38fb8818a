"""Load-time proof that the shortcuts of `model.py` and `batching.py` hold for a model.

Three are taken: the output layer is applied to hidden states directly (wrong for models that scale
or cap their logits), rollouts of one prompt share a row (wrong for models that do not see the past
by plain full attention), and rows lie end to end in lines (also wrong where the device's kernel
is). The first is required; without the second rows are not shared, without the third padded.
"""

from __future__ import annotations

import logging
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

TOLERANCE_SLOPE: Final = 1e-2
"""Largest difference of a layer's gradient, over its norm."""

logger = logging.getLogger(__name__)

_PROMPT, _BRANCH = 12, 6


def _probe(policy: Policy) -> list[TokenSequence]:
    """Two sequences with a common prompt and different continuations, inside the vocabulary."""
    num_tokens = _PROMPT + _BRANCH
    trained_T = np.arange(num_tokens) >= _PROMPT
    zeros_T = np.zeros(num_tokens, dtype=np.float32)
    first = (np.arange(num_tokens, dtype=np.int32) * 7 + 3) % policy.vocab_size
    second = np.where(trained_T, (first * 5 + 1) % policy.vocab_size, first).astype(np.int32)
    return [TokenSequence(tokens, trained_T, zeros_T) for tokens in (first, second)]


def _micro_batch(
    policy: Policy, sequences: list[TokenSequence], rows: list[Row], *, as_line: bool = False
) -> MicroBatch:
    table = token_table(sequences, torch.zeros(len(sequences)))
    micro = build_micro_batch(rows, sequences, table.offsets, as_line=as_line)
    return micro.to(policy.device)


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
    if not _sees_all(policy):
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


def settle_attention(policy: Policy, *, required: bool) -> None:
    """Leave a model with lines only if they give the numbers of rows, forward and backward.

    Raises:
        ModelError: they do not, and lines are required.
    """
    if not policy.uses_lines:
        return
    found = _gap_of_lines(policy) if _sees_all(policy) else "it does not see the whole past"
    if found is None:
        return
    if required:
        raise ModelError(f"model.attention: {type(policy.module).__name__} has no lines: {found}")
    logger.warning("lines.not_used", extra={"reason": found})
    policy.use_rows()


def _sees_all(policy: Policy) -> bool:
    """Whether every layer is plain full attention, by the model's own word."""
    shape = policy.module.config.get_text_config()  # type: ignore[union-attr, operator]
    kinds = set(getattr(shape, "layer_types", None) or ["full_attention"])
    return getattr(shape, "sliding_window", None) is None and kinds == {"full_attention"}


def _gap_of_lines(policy: Policy) -> str | None:
    """How a line of a shared row and a plain one differs from rows; null if it does not."""
    policy = _exact(policy)
    first, second = _probe(policy)
    num_tokens = _PROMPT + _BRANCH
    rows = [Row((0, 1), _PROMPT, num_tokens + _BRANCH), Row((2,), 0, num_tokens)]
    weight = next(p for name, p in policy.module.named_parameters() if _is_deep(policy, name, p))
    values: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []
    try:
        for as_line in (False, True):
            micro = _micro_batch(policy, [first, second, second], rows, as_line=as_line)
            lp_n, _ = policy.token_logprobs(micro)
            values.append(lp_n.detach()[micro.token_n.argsort()])
            gradients.extend(torch.autograd.grad(lp_n.mean(), weight))
    except (RuntimeError, ValueError, TypeError) as error:
        return str(error).splitlines()[0]
    gap = float((values[0] - values[1]).abs().max())
    size = float(gradients[0].norm())
    slope = float((gradients[0] - gradients[1]).norm()) / max(size, 1e-12)
    if gap <= TOLERANCE_NATS and slope <= TOLERANCE_SLOPE:
        return None
    return f"log-probabilities off by {gap:.3g} nats, gradients by {slope:.3g} of their norm"


def _is_deep(policy: Policy, name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether a parameter lies in a layer and learns, so that its gradient passes the layers."""
    in_layer = parameter.ndim == 2 and name not in (policy.table_name, policy.head_name)
    return in_layer and parameter.requires_grad
