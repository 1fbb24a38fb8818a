"""vLLM's answers as completions and scores: token ids, log-probabilities, versions, reasons.

Nothing is guessed: an answer that lacks a token's log-probability or its version is an error.
Used by `vllm_engine.py`.
"""

from __future__ import annotations

from etude_proto.v1 import FinishReason

from .base import Completion, EngineError, EngineUnavailable
from .vllm_weights import Served
from .vllm_wire import Choice, Generated, Span

_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


def generated_of(generated: Generated, served: Served, *, now: Served, num_top: int) -> Completion:
    """A completion of `/inference/v1/generate`.

    Args:
        served: what the request met when it began.
        now: what a request meets at its end.
        num_top: most likely log-probabilities wanted at a token.

    Raises:
        EngineUnavailable: weights that nobody loaded here sampled a token of it.
        EngineError: ids, log-probabilities or versions are missing.
    """
    content = None if generated.logprobs is None else generated.logprobs.content
    ids = generated.token_ids
    if ids is None or content is None or len(content) != len(ids):
        raise EngineError("vLLM gave no log-probability for every token")
    tops = [[one.logprob for one in token.top_logprobs] for token in content]
    return Completion(
        token_ids=tuple(ids),
        logprobs=tuple(token.logprob for token in content),
        versions=_versions(generated.weight_versions, len(ids), served, now),
        text=generated.text,
        finish_reason=_FINISH_REASONS.get(generated.finish_reason or "", FinishReason.ABORTED),
        top_logprobs=_largest(tops, num_top),
    )


def _versions(
    spans: list[Span] | None, num_tokens: int, served: Served, now: Served
) -> tuple[int, ...]:
    if served.is_adapter:  # the request named it; the weights below it are not the policy's
        return (served.version,) * num_tokens
    known = {**served.versions_by_label, **now.versions_by_label}
    versions: list[int] = []
    for span in spans or ():
        version = known.get(span.version)
        if version is None:
            raise EngineUnavailable(
                f"vLLM sampled from weights {span.version!r}, which this worker did not load: "
                "it was restarted, or somebody else changes them"
            )
        versions += [version] * (span.end - span.start)
    if len(versions) != num_tokens:
        raise EngineError(f"vLLM gave versions of {len(versions)} of {num_tokens} tokens")
    return tuple(versions)


def completion_of(choice: Choice, version: int, *, num_top: int) -> Completion:
    """A completion of `/v1/completions`, all of it sampled by one version.

    Raises:
        EngineError: ids or log-probabilities are missing.
    """
    if choice.token_ids is None or choice.logprobs is None:
        raise EngineError("vLLM gave no token ids or no logprobs")
    logprobs = [value for value in choice.logprobs.token_logprobs if value is not None]
    if len(logprobs) != len(choice.token_ids):
        raise EngineError(f"vLLM gave {len(choice.token_ids)} tokens and {len(logprobs)} logprobs")
    tops = [list((row or {}).values()) for row in choice.logprobs.top_logprobs or ()]
    return Completion(
        token_ids=tuple(choice.token_ids),
        logprobs=tuple(logprobs),
        versions=(version,) * len(choice.token_ids),
        text=choice.text,
        finish_reason=_FINISH_REASONS.get(choice.finish_reason or "", FinishReason.ABORTED),
        top_logprobs=_largest(tops, num_top),
    )


def _largest(tops: list[list[float]], num_top: int) -> tuple[tuple[float, ...], ...]:
    """vLLM adds the sampled token's to the most likely ones."""
    if num_top == 0:
        return ()
    return tuple(tuple(sorted(top, reverse=True)[:num_top]) for top in tops)


def scores_of(choice: Choice, ids: list[int]) -> list[float]:
    """Log-probabilities of a prompt's tokens, but for the first.

    Raises:
        EngineError: they are missing, or another prompt's.
    """
    rows = choice.prompt_logprobs
    if rows is None or len(rows) != len(ids):
        raise EngineError("vLLM gave no prompt_logprobs")
    try:
        return [
            row[str(token)].logprob
            for row, token in zip(rows[1:], ids[1:], strict=True)
            if row is not None
        ]
    except KeyError as error:
        raise EngineError(f"vLLM scored another token than {error}") from error
