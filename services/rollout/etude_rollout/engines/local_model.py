"""A `transformers` model in this process: loading it, and replacing its weights in place.

The engine's thread calls both (`transformers_engine.py`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from .base import EngineError, WeightsRefused

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


LOADING: Final = threading.Lock()
"""Held while a model is loaded: transformers replaces methods of its classes meanwhile, and two
loads at once in one process may leave them replaced for ever."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that generates, with what is needed to know where a turn ends."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: frozenset[int]
    pad_id: int


def load_model(
    model_dir: Path, dtype: Literal["float32", "bfloat16"], num_threads: int | None
) -> LocalModel:
    """Load a model directory for generation; see `TransformersEngine.open`.

    Raises:
        EngineError: there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        with LOADING:
            model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise EngineError(f"no model that transformers can load in {model_dir}: {error}") from error
    model.eval().requires_grad_(requires_grad=False)
    config_eos = model.generation_config.eos_token_id
    eos_ids = {config_eos} if isinstance(config_eos, int) else set(config_eos or ())
    if tokenizer.eos_token_id is not None:
        eos_ids.add(tokenizer.eos_token_id)
    pad_id = tokenizer.pad_token_id
    return LocalModel(model, tokenizer, frozenset(eos_ids), 0 if pad_id is None else pad_id)


def replace_weights(
    model: PreTrainedModel, staged: dict[str, torch.Tensor], *, origin: str
) -> None:
    """Copy tensors into the model, after checking all of them.

    Args:
        origin: where they come from, for messages.

    Raises:
        WeightsRefused: a name is missing or unknown, or a shape differs.
    """
    import torch

    wanted: dict[str, torch.Tensor] = dict(model.named_parameters())
    aliases = {
        name for name in model.state_dict() if name not in wanted
    }  # tied to another name, or buffers
    missing = sorted(wanted.keys() - staged.keys())
    unknown = sorted(staged.keys() - wanted.keys() - aliases)
    if missing or unknown:
        raise WeightsRefused(f"{origin}: missing {missing[:3]}, unknown {unknown[:3]}")
    for name, parameter in wanted.items():
        if staged[name].shape != parameter.shape:
            raise WeightsRefused(
                f"{origin}: {name} has shape {list(staged[name].shape)}, "
                f"want {list(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(staged[name])
