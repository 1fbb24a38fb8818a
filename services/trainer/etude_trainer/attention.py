"""Attention over a line of many trees: every prompt with its branches, end to end, no padding.

A line is how a device with block-sparse attention takes a micro-batch (`layout.pack_rows`): blocks
of pairs that do not see each other are not computed (torch's `flex_attention`). `model.py` loads a
model with the function below and gives it the mask; every other pass, without such a mask, runs
torch's ordinary attention. Elsewhere a line works too, with a mask of its length squared.

On CUDA this was written from the library's source and has not been run; `checks.py` compares it
with ordinary rows when a model is loaded, and without agreement it is not used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

NAME: Final = "etude_lines"
BLOCK_TOKENS: Final = 128
"""Side of a block: lines are padded to its multiples, which also keeps their lengths few."""
MIN_CAPABILITY: Final = 8
"""Oldest CUDA generation for which lines are the default (Ampere: the first with bfloat16)."""

Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(batch, head, position, other position) -> whether the first may look at the second."""


def install() -> str:
    """Make the attention function known to `transformers`; returns the name to load a model with.

    Installing it again changes nothing.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def prefers_lines(device: torch.device) -> bool:
    """Whether the device skips blocks of a mask: lines cost no more than their trees."""
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device)[0] >= MIN_CAPABILITY


def sees(trees_2L: Tensor) -> Sees:
    """Who sees whom in a line.

    Args:
        trees_2L: the tree of each position and its branch there; branch 0 is the shared prompt.
    """
    tree_L, branch_L = trees_2L

    def rule(_batch: Tensor, _head: Tensor, one: Tensor, other: Tensor) -> Tensor:
        is_earlier = one >= other
        is_kin = (branch_L[other] == 0) | (branch_L[other] == branch_L[one])
        seen: Tensor = is_earlier & (tree_L[one] == tree_L[other]) & is_kin
        return seen

    return rule


def line_mask(trees_2L: Tensor) -> BlockMask | Tensor:
    """The mask of a line [1, 1, L, L]: block-sparse on CUDA, dense elsewhere."""
    length = trees_2L.shape[1]
    if trees_2L.device.type == "cuda":
        return block_mask(trees_2L)
    positions_L = torch.arange(length, device=trees_2L.device)
    nothing = positions_L[:0]
    dense_LL = sees(trees_2L)(nothing, nothing, positions_L[:, None], positions_L[None, :])
    return dense_LL[None, None]


def block_mask(trees_2L: Tensor) -> BlockMask:
    """The block-sparse mask of a line whose length is a multiple of `BLOCK_TOKENS`."""
    length = trees_2L.shape[1]
    made = _maker(trees_2L.device.type)(
        sees(trees_2L),
        B=None,
        H=None,
        Q_LEN=length,
        KV_LEN=length,
        device=trees_2L.device.type,
        BLOCK_SIZE=BLOCK_TOKENS,
    )
    return made


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BlockMask | Tensor | None,
    **options: object,
) -> tuple[Tensor, None]:
    """One layer's attention, as `transformers` calls it: heads second, positions third.

    Under autocast the rotated queries and keys are float32 beside values in bfloat16; ordinary
    attention casts them itself, `flex_attention` does not.
    """
    if not isinstance(attention_mask, BlockMask):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        answer: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return answer
    groups = query.shape[1] // key.shape[1]
    is_power = groups & (groups - 1) == 0
    if not is_power:  # the kernel shares heads by powers of two only
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    attended = _flex(query.device.type)(
        query.to(value.dtype),
        key.to(value.dtype),
        value,
        block_mask=attention_mask,
        scale=options.get("scaling"),
        enable_gqa=is_power and groups > 1,
    )
    return attended.transpose(1, 2).contiguous(), None


@functools.cache
def _maker(device_type: str) -> Callable[..., BlockMask]:
    """Compiled on CUDA: without it all pairs are held at once."""
    if device_type == "cuda":
        compiled: Callable[..., BlockMask] = torch.compile(create_block_mask)
        return compiled
    return create_block_mask


@functools.cache
def _flex(device_type: str) -> Callable[..., Tensor]:
    """Compiled where there is a kernel to compile; elsewhere it serves tests of its forward."""
    if device_type == "cuda":
        compiled: Callable[..., Tensor] = torch.compile(flex_attention)
        return compiled
    plain: Callable[..., Tensor] = flex_attention
    return plain
