"""The parts of the GGUF conversion that need no file; the whole is checked on the real one."""

from __future__ import annotations

import numpy as np
import pytest

from etude_rollout.models.gguf_convert import ConversionError, tensor_name, unpermute


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.7.attn_q.weight", "model.layers.7.self_attn.q_proj.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.29.ffn_down.weight", "model.layers.29.mlp.down_proj.weight"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert tensor_name(name) == expected


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "blk.0.moe.weight", "rope_freqs.weight"])
def test_other_models_are_not_converted(name: str) -> None:
    with pytest.raises(ConversionError, match=name):
        tensor_name(name)


def test_rotary_halves_are_put_side_by_side_in_each_head() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of four rows
    assert unpermute(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
