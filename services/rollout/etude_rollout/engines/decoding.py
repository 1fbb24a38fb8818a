"""The decoding loop of the `transformers` engine: one batch of requests, start to finish.

Each prompt is read once, left-padded beside the others; its key-value cache is then copied for its
completions. Completions that end leave the batch, so that a long one does not make the others
wait for nothing. Runs in the engine's thread (`transformers_engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from etude_proto.v1 import FinishReason

from .base import Completion, GenerationRequest, cut_off
from .sampling import draw_tokens, sampled_distribution

TextOf = Callable[[list[int]], str]
"""Decodes tokens, without special ones."""

COMPACT_BELOW = 0.75
"""Share of rows still running below which the batch is made smaller (our choice)."""


@dataclass(slots=True)
class Row:
    """One completion while it grows."""

    request_index: int
    completion_index: int
    max_new_tokens: int
    temperature: float
    top_p: float
    uniforms: np.random.Generator
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    num_top_logprobs: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[float, ...]] = field(default_factory=list)
    is_done: bool = False
    has_stopped: bool = False
    """Ended by an end-of-turn token, a stop token or a stop text, not by its length."""
    is_late: bool = False
    """Cut off because it took too long."""

    def ends_with_stop(self, text_of: TextOf) -> bool:
        """Whether a stop text has just been completed; looked for in the last tokens only.

        A character may be spread over four tokens (the bytes of its UTF-8 form).
        """
        if not self.stop:
            return False
        tail = text_of(self.token_ids[-4 * max(map(len, self.stop)) - 4 :])
        return any(text in tail for text in self.stop)


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends completions, besides their length."""

    eos_ids: frozenset[int]
    text_of: TextOf
    is_cancelled: Callable[[int], bool]
    """Whether nobody waits for that request any more."""
    is_late: Callable[[int], bool]
    """Whether what that request has not got by now is to be cut off."""


def _rows(requests: Sequence[GenerationRequest]) -> list[Row]:
    return [
        Row(
            request_index=i,
            completion_index=j,
            max_new_tokens=request.sampling.max_new_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            # Counter-based, keyed by seed and completion: rows never share a stream.
            uniforms=np.random.Generator(np.random.Philox(key=[request.seed, request.first + j])),
            stop=request.sampling.stop,
            stop_token_ids=frozenset(request.sampling.stop_token_ids),
            num_top_logprobs=request.sampling.num_top_logprobs,
        )
        for i, request in enumerate(requests)
        for j in range(request.num_completions)
    ]


@dataclass(slots=True)
class _Context:
    """The running rows' place in the model: cache, attention mask [R, T], next position [R]."""

    cache: DynamicCache
    mask_RT: torch.Tensor
    position_R: torch.Tensor
    logits_RV: torch.Tensor

    def select(self, indices: torch.Tensor) -> None:
        self.cache.batch_select_indices(indices)
        self.mask_RT = self.mask_RT[indices]
        self.position_R = self.position_R[indices]
        self.logits_RV = self.logits_RV[indices]

    def step(self, model: PreTrainedModel, tokens_R: torch.Tensor) -> None:
        ones_R1 = torch.ones((len(tokens_R), 1), dtype=torch.long)
        self.mask_RT = torch.cat([self.mask_RT, ones_R1], dim=1)
        out = model(
            input_ids=tokens_R[:, None],
            attention_mask=self.mask_RT,
            position_ids=self.position_R[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position_R = self.position_R + 1
        self.logits_RV = out.logits[:, -1]


def _read_prompts(
    model: PreTrainedModel, requests: Sequence[GenerationRequest], pad_id: int
) -> _Context:
    width = max(len(request.prompt_ids) for request in requests)
    ids_PT = torch.full((len(requests), width), pad_id)
    mask_PT = torch.zeros((len(requests), width), dtype=torch.long)
    for i, request in enumerate(requests):
        ids_PT[i, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        mask_PT[i, width - len(request.prompt_ids) :] = 1
    cache = DynamicCache(config=model.config)
    out = model(
        input_ids=ids_PT,
        attention_mask=mask_PT,
        position_ids=(mask_PT.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return _Context(cache, mask_PT, mask_PT.sum(dim=1), out.logits[:, -1])


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    requests: Sequence[GenerationRequest],
    *,
    ends: Ends,
    pad_id: int,
    on_done: Callable[[int, list[Row]], None],
) -> int:
    """Generate every completion of every request; returns the number of tokens sampled.

    `on_done(request index, rows)` is called as soon as a request's last completion has ended.
    A request that is cancelled leaves the batch silently.
    """
    rows = _rows(requests)
    rows_of = [[row for row in rows if row.request_index == i] for i in range(len(requests))]
    context = _read_prompts(model, requests, pad_id)
    running = rows
    context.select(torch.tensor([row.request_index for row in running]))
    while True:
        tokens_R = _draw(running, context.logits_RV, ends)
        _settle(running, rows_of, ends=ends, on_done=on_done)
        keep = [r for r, row in enumerate(running) if not row.is_done]
        if not keep:
            return sum(len(row.token_ids) for row in rows)
        if len(keep) <= COMPACT_BELOW * len(running):
            indices = torch.tensor(keep)
            context.select(indices)
            tokens_R = tokens_R[indices]
            running = [running[r] for r in keep]
        context.step(model, tokens_R)


def _draw(running: list[Row], logits_RV: torch.Tensor, ends: Ends) -> torch.Tensor:
    temperature_R = torch.tensor([row.temperature for row in running])
    logprobs_RV = sampled_distribution(
        logits_RV,
        temperature_B=temperature_R,
        top_p_B=torch.tensor([row.top_p for row in running]),
    )
    uniforms_R = torch.tensor([row.uniforms.random() for row in running], dtype=torch.float64)
    tokens_R, chosen_R = draw_tokens(
        logprobs_RV, uniforms_B=uniforms_R, is_greedy_B=temperature_R == 0
    )
    _note_top(running, logprobs_RV)
    for row, token, logprob in zip(running, tokens_R.tolist(), chosen_R.tolist(), strict=True):
        if row.is_done:
            continue
        row.token_ids.append(token)
        row.logprobs.append(logprob)
        row.has_stopped = (
            token in ends.eos_ids or token in row.stop_token_ids or row.ends_with_stop(ends.text_of)
        )
    return tokens_R


def _note_top(running: list[Row], logprobs_RV: torch.Tensor) -> None:
    """Keep the most likely log-probabilities where they are wanted."""
    most = max(row.num_top_logprobs for row in running)
    if most == 0:
        return
    top_RK = logprobs_RV.topk(min(most, logprobs_RV.shape[1]), dim=-1).values
    for row, values in zip(running, top_RK.tolist(), strict=True):
        if row.num_top_logprobs and not row.is_done:
            row.top_logprobs.append(tuple(values[: row.num_top_logprobs]))


def _settle(
    running: list[Row],
    rows_of: list[list[Row]],
    *,
    ends: Ends,
    on_done: Callable[[int, list[Row]], None],
) -> None:
    """Mark the rows that ended and hand over the requests that are complete."""
    ended: list[Row] = []
    for row in running:
        if row.is_done:
            continue
        is_whole = row.has_stopped or len(row.token_ids) >= row.max_new_tokens
        row.is_late = not is_whole and ends.is_late(row.request_index)
        row.is_done = is_whole or row.is_late or ends.is_cancelled(row.request_index)
        if row.is_done:
            ended.append(row)
    for index in sorted({row.request_index for row in ended}):
        if all(row.is_done for row in rows_of[index]) and not ends.is_cancelled(index):
            on_done(index, rows_of[index])


def completion_of(row: Row, *, text_of: TextOf, version: int) -> Completion:
    """What became of a row, sampled by the weights of that version."""
    if row.is_late:
        return cut_off()
    return Completion(
        token_ids=tuple(row.token_ids),
        logprobs=tuple(row.logprobs),
        versions=(version,) * len(row.token_ids),
        text=text_of(row.token_ids),
        finish_reason=FinishReason.STOP if row.has_stopped else FinishReason.LENGTH,
        top_logprobs=tuple(row.top_logprobs),
    )


@torch.inference_mode()
def score(model: PreTrainedModel, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
    """For each sequence, log p(token t+1 | tokens 0..t) at temperature 1, float32, in nats."""
    scores: list[list[float]] = []
    for ids in token_ids:
        ids_1T = torch.tensor([list(ids)])
        logits_TV = model(input_ids=ids_1T, use_cache=False).logits[0, :-1].float()
        chosen_T = logits_TV.gather(1, ids_1T[0, 1:, None]).squeeze(1)
        scores.append((chosen_T - logits_TV.logsumexp(dim=-1)).tolist())
    return scores
