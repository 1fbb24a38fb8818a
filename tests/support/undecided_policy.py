"""A tiny policy that is right about every second time, for tests of what success decides.

With `PREFILL` said for it, an answer is right if the policy ends its turn at once; the embedding of
the end-of-turn token is turned so that it does so with probability near one half. Everything else
is the random policy of `rollout_parts`.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from etude_proto.v1 import ResponseReference, TaskCreate
from etude_rollout.models.tiny_tasks import dataset
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from support.rollout_parts import tiny_policy

PREFILL = "<think> use it </think>\n<response> sorry </response>"
MAX_NEW_TOKENS = 1
"""One token decides: the end of the turn, or one that spoils the format."""
_ROUNDS = 5


def answers(num: int) -> list[TaskCreate]:
    """Tasks that want a plain answer."""
    plain = {"reference": ResponseReference(), "subtasks": ["format"]}
    return [row.model_copy(update=plain) for row in dataset(num_train=num, num_held_out=0)]


def undecided_policy(directory: Path, *, made: Path | None = None) -> Path:
    """Make the policy, out of a random one if there is one; returns the folder."""
    if made is None:
        tiny_policy(directory)
    else:
        shutil.copytree(made, directory)
    tokenizer = load_tokenizer(directory)
    options = PromptOptions(explain_format=False, prefill=PREFILL)
    tasks = itertools.islice(answers(16), 6)
    prompts = [
        list(Prompter(tokenizer, options).render(task.messages, task.tools).token_ids)
        for task in tasks
    ]
    model = AutoModelForCausalLM.from_pretrained(directory)
    eos = int(model.config.eos_token_id)
    embedding_VH = model.get_input_embeddings().weight
    with torch.no_grad():
        for _ in range(_ROUNDS):  # the token also stands in the prompts
            last = [model(torch.tensor([ids]), output_hidden_states=True) for ids in prompts]
            hidden_PH = torch.stack([out.hidden_states[-1][0, -1] for out in last])
            logits_PV = torch.stack([out.logits[0, -1] for out in last])
            logits_PV[:, eos] = -torch.inf
            wanted = logits_PV.logsumexp(dim=1).mean()
            mean_H = hidden_PH.mean(dim=0)
            embedding_VH[eos] = wanted * mean_H / (hidden_PH @ mean_H).mean()
    model.save_pretrained(directory)
    return directory
