"""A tiny language model for trainer tests: two layers, random weights, no tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB_SIZE = 512


def save_tiny_model(
    directory: Path, *, seed: int = 0, tied: bool = True, vocab_size: int = VOCAB_SIZE
) -> Path:
    """Write a Llama of about 100,000 parameters, as `transformers` saves it; returns the folder."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    rng = np.random.default_rng(seed)
    with torch.no_grad():  # ours, because transformers may draw in another order tomorrow
        for name, weight in sorted(model.named_parameters()):
            if "norm" not in name:
                weight.copy_(torch.from_numpy(rng.normal(0.0, 0.02, size=tuple(weight.shape))))
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    return directory
