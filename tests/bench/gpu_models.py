"""The models of `gpu.py`: fetched, or made on the spot with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from step_work import Shape
from transformers import LlamaConfig, LlamaForCausalLM

from etude_rollout.models.tiny import make_model

BATCH = Shape(num_groups=16, group_size=8, prompt=(256, 768), completion=(64, 512))
TINY_BATCH = Shape(num_groups=2, group_size=4, prompt=(16, 48), completion=(4, 24))


@dataclass(frozen=True, slots=True)
class Places:
    """Where models are."""

    folder: Path
    """For what is made."""
    smollm2: Path


@dataclass(frozen=True, slots=True)
class Model:
    """A model directory with the batch that it is measured on."""

    name: str
    directory: Path
    batch: Shape
    micro_batch_tokens: int
    missing: str | None = None
    """Why it is not there."""


def models(places: Places, *, tiny: bool) -> Iterator[Model]:
    """SmolLM2 and the large one, or two tiny ones; made one by one, when it is their turn."""
    if tiny:
        for name, hidden_size, num_layers in (("tiny", 64, 2), ("tiny-wide", 128, 3)):
            directory = places.folder / name
            make_model(directory, hidden_size=hidden_size, num_layers=num_layers)
            yield Model(name, directory, TINY_BATCH, 512)
        return
    has_smollm2 = (places.smollm2 / "config.json").is_file()
    reason = f"{places.smollm2} is not there: etude-rollout models fetch-smollm2"
    yield Model("smollm2-135m", places.smollm2, BATCH, 16384, None if has_smollm2 else reason)
    tokenizer = places.smollm2 if has_smollm2 else None
    directory = make_large(places.folder / "llama-1.2b", tokenizer=tokenizer)
    yield Model("llama-1.2b-random", directory, BATCH, 16384)


def make_large(directory: Path, *, tokenizer: Path | None) -> Path:
    """A Llama of 1.2 billion random parameters in bfloat16; returns the directory.

    The shape is that of small public Llamas (our choice): 16 layers of 2,048 with 32 heads over 8.
    """
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlamaForCausalLM(shape)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(directory)
    if tokenizer is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tokenizer / name, directory / name)
    return directory
