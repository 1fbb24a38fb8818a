"""A tiny Llama policy with its own byte-level tokenizer and a chat template that shows tools.

About a hundred thousand parameters: it generates and trains in milliseconds on a CPU, and it is a
real `transformers` model directory that every engine loads. The tokenizer is trained on the task
family of `tiny_tasks.py`, so prompts and completions are short; values stand quoted in prompt and
answer alike, so that copying one is copying a token. Sizes follow platform.md section 5.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from etude_proto.v1 import TaskCreate

from .tiny_tasks import TOOL_KINDS, answer, draw_tasks

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
FORMAT_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>")
"""One token each, and not special: they are part of the text that is scored."""

CHAT_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>tools\\n' }}
{%- for tool in tools %}{{ tool.function.name }}
{%- for name in tool.function.parameters.properties %}{{ ' "' + name + '"' }}{%- endfor %}
{{- '\\n' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"""

NUM_TOKENIZER_TASKS = 400
VOCABULARY_SIZE = 768
CONTEXT = 1024
INITIALIZER_RANGE = 0.1
"""About 1 / sqrt(hidden size). With the usual 0.02 copying is not learned within the warm-up."""


def _corpus(seed: int) -> list[str]:
    texts = [
        text
        for tiny in itertools.islice(draw_tasks(seed), NUM_TOKENIZER_TASKS)
        for text in (tiny.task.messages[0].content, answer(tiny.call))
    ]
    words = {name for kind in TOOL_KINDS for slot in kind.slots for name in slot.names}
    words |= {kind.name for kind in TOOL_KINDS}
    values = {str(value) for kind in TOOL_KINDS for slot in kind.slots for value in slot.values}
    lines = [f'"{word}" {word} {word}' for word in sorted(words | values)]
    lines.append("system user assistant tools tool")
    return texts + 24 * lines


def make_tokenizer(out: Path, *, seed: int = 0) -> None:
    """Train the byte-level BPE tokenizer and write its files into `out`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(FORMAT_TAGS),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in FORMAT_TAGS])
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "bos_token": None,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def make_model(out: Path, *, seed: int = 0, hidden_size: int = 64, num_layers: int = 2) -> None:
    """Write tokenizer, configuration and freshly initialised fp32 weights into `out`.

    The same seed gives the same bytes. The directory is created when missing.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    out.mkdir(parents=True, exist_ok=True)
    make_tokenizer(out, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(out)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        head_dim=32,
        initializer_range=INITIALIZER_RANGE,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.to(torch.float32).save_pretrained(out)


def write_tasks(path: Path, rows: list[TaskCreate]) -> None:
    """Write tasks as JSON lines, the form of `etude import jsonl` and of the REST import."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row.model_dump_json() for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
