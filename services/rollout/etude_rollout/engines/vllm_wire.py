"""The shapes of a vLLM server's answers, as far as Etude reads them. Used by `vllm_api.py`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Unknown fields are ignored: servers differ by release."""

    model_config = ConfigDict(extra="ignore")


class TopLogprob(Answer):
    """One likely token's."""

    logprob: float


class TokenLogprob(Answer):
    """Of one sampled token."""

    logprob: float
    top_logprobs: list[TopLogprob] = []


class TokenLogprobs(Answer):
    """Of the sampled tokens, as `/inference/v1/generate` gives them."""

    content: list[TokenLogprob] | None = None


class Span(Answer):
    """Tokens `start` to `end` (exclusive) were sampled by the weights of this label."""

    version: str
    start: int
    end: int


class Generated(Answer):
    """One completion of `/inference/v1/generate`."""

    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: TokenLogprobs | None = None
    weight_versions: list[Span] | None = None


class Generation(Answer):
    """Answer of `/inference/v1/generate`."""

    choices: list[Generated]


class Logprobs(Answer):
    """Of the sampled tokens, as `/v1/completions` gives them."""

    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class PromptLogprob(Answer):
    """Of one token of the prompt."""

    logprob: float


class Choice(Answer):
    """One completion of `/v1/completions`."""

    index: int
    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: Logprobs | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class Completions(Answer):
    """Answer of `/v1/completions`."""

    choices: list[Choice]


class ServedModel(Answer):
    """One entry of `/v1/models`."""

    id: str
    root: str | None = None
    parent: str | None = None
    """Of an adapter: the model that it belongs to."""
    max_model_len: int | None = None


class ServedModels(Answer):
    """Answer of `/v1/models`."""

    data: list[ServedModel]


class WeightInfo(Answer):
    """Answer of `/weight_info`: the label given with the last update."""

    weight_version: str


class WorldSize(Answer):
    """Answer of `/get_world_size`."""

    world_size: int


class CacheReset(Answer):
    """Answer of `/reset_prefix_cache`."""

    success: bool


class Tokens(Answer):
    """Answer of `/tokenize`."""

    tokens: list[int]


class Version(Answer):
    """Answer of `/version`."""

    version: str
