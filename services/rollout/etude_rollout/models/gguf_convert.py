"""A Llama GGUF file as a `transformers` model directory.

Reads tensors and fields with the gguf package, dequantises, undoes the row order that llama.cpp
gives to the rotary projections, and writes safetensors, configuration, tokenizer and chat template.
Recipe: platform.md section 5. Used by `smollm2.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader
    from numpy.typing import NDArray

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_down": "mlp.down_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_CONTROL_TOKEN = 3
"""gguf's kind of tokens that are special."""


class ConversionError(ValueError):
    """A GGUF file that this recipe does not cover."""


class _Fields:
    """Typed access to the file's metadata."""

    def __init__(self, reader: GGUFReader) -> None:
        self._values = {name: field.contents() for name, field in reader.fields.items()}

    def __getitem__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError as error:
            raise ConversionError(f"the file has no field {name}") from error

    def text(self, name: str) -> str:
        return str(self[name])

    def number(self, name: str) -> int:
        return int(str(self[name]))

    def real(self, name: str) -> float:
        return float(str(self[name]))

    def texts(self, name: str) -> list[str]:
        values = self[name]
        assert isinstance(values, list)
        return [str(value) for value in values]

    def numbers(self, name: str) -> list[int]:
        values = self[name]
        assert isinstance(values, list)
        return [int(value) for value in values]

    def __contains__(self, name: str) -> bool:
        return name in self._values


def tensor_name(name: str) -> str:
    """The `transformers` name of a GGUF tensor.

    Raises:
        ConversionError: unknown.
    """
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_BLOCK[parts[2]]}.weight"
    raise ConversionError(f"tensor {name} is not part of a Llama model")


def unpermute(rows: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Rotary halves side by side again, as `transformers` wants them.

    llama.cpp interleaves the two halves of each head's rows: (heads, half, 2, columns).
    """
    num_rows, num_columns = rows.shape
    half = num_rows // num_heads // 2
    return (
        rows.reshape(num_heads, half, 2, num_columns).swapaxes(1, 2).reshape(num_rows, num_columns)
    )


def convert(gguf_file: Path, out: Path, *, on_tensor: Callable[[int, int], None]) -> None:
    """Write the model directory `out`, bfloat16.

    Args:
        on_tensor: called with the number of tensors done and in all.

    Raises:
        ConversionError: not a Llama file, or a tensor or field is missing.
    """
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import save_file

    reader = GGUFReader(gguf_file)
    fields = _Fields(reader)
    if fields.text("general.architecture") != "llama":
        raise ConversionError(f"architecture {fields.text('general.architecture')}, want llama")
    heads = {
        "attn_q": fields.number("llama.attention.head_count"),
        "attn_k": fields.number("llama.attention.head_count_kv"),
    }
    tensors: dict[str, torch.Tensor] = {}
    for done, tensor in enumerate(reader.tensors, start=1):
        values = dequantize(tensor.data, tensor.tensor_type).astype("float32")
        kind = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if kind in heads:
            values = unpermute(values, heads[kind])
        tensors[tensor_name(tensor.name)] = torch.from_numpy(values.copy()).to(torch.bfloat16)
        on_tensor(done, len(reader.tensors))
    out.mkdir(parents=True, exist_ok=True)
    weights = out / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # it is made for its owner alone
    _write_config(fields, out, is_tied="lm_head.weight" not in tensors)
    _write_tokenizer(fields, out)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_config(fields: _Fields, out: Path, *, is_tied: bool) -> None:
    num_heads = fields.number("llama.attention.head_count")
    hidden_size = fields.number("llama.embedding_length")
    eos = fields.number("tokenizer.ggml.eos_token_id")
    bos = fields.number("tokenizer.ggml.bos_token_id")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "vocab_size": len(fields.texts("tokenizer.ggml.tokens")),
        "hidden_size": hidden_size,
        "intermediate_size": fields.number("llama.feed_forward_length"),
        "num_hidden_layers": fields.number("llama.block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": fields.number("llama.attention.head_count_kv"),
        "head_dim": hidden_size // num_heads,
        "max_position_embeddings": fields.number("llama.context_length"),
        "rms_norm_eps": round(fields.real("llama.attention.layer_norm_rms_epsilon"), 10),
        "rope_theta": fields.real("llama.rope.freq_base"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": is_tied,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }
    _write_json(out / "config.json", config)
    generation = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos}
    _write_json(out / "generation_config.json", generation)


def _pair(merge: str) -> tuple[str, str]:
    left, right = merge.split(" ", 1)
    return left, right


def _write_tokenizer(fields: _Fields, out: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields.texts("tokenizer.ggml.tokens")
    merges = [_pair(merge) for merge in fields.texts("tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields.numbers("tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(out / "tokenizer.json"))
    eos = tokens[fields.number("tokenizer.ggml.eos_token_id")]
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[fields.number("tokenizer.ggml.bos_token_id")],
        "eos_token": eos,
        "pad_token": eos,
        "model_max_length": fields.number("llama.context_length"),
        "clean_up_tokenization_spaces": False,
        "chat_template": fields.text("tokenizer.chat_template"),
    }
    _write_json(out / "tokenizer_config.json", config)
