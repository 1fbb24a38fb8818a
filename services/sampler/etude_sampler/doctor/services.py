"""What is reached over HTTP: a sampler that runs, and the vLLM engine of a rollout worker."""

from __future__ import annotations

import httpx

from etude_client import EtudeClient, EtudeError
from etude_client.errors import ApiError, Unreachable
from etude_proto import CONTRACT_VERSION

from .finding import Finding, bad, ok, warn

_TIMEOUT_S = 5.0


def sampler(url: str, key: str | None) -> list[Finding]:
    """Whether a sampler answers, is ready, speaks our contract and takes our key."""
    try:
        with EtudeClient(url, api_key=key, max_attempts=1) as client:
            client.list_runs(limit=1)
    except Unreachable as error:
        mend = "start it (`etude serve`), or correct ETUDE_SAMPLER_URL"
        return [bad("sampler", f"{url} does not answer: {error}", mend)]
    except EtudeError as error:
        if isinstance(error, ApiError) and error.status in (401, 403):
            mend = "set ETUDE_API_KEY or ETUDE_API_KEY_FILE"
            return [bad("sampler", f"{url} refuses the key: {error}", mend)]
        return [bad("sampler", f"{url}: {error}", "look at its /readyz and its log")]
    except ValueError as error:
        return [bad("sampler", str(error), "correct ETUDE_SAMPLER_URL")]
    return [ok("sampler", f"{url} answers and takes the key"), _contract(url)]


def _contract(url: str) -> Finding:
    try:
        document = httpx.get(f"{url}/openapi.json", timeout=_TIMEOUT_S).json()
        theirs = str(document["info"]["version"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return warn("contract", f"not told: {error}", "is this address a sampler's?")
    if theirs.split(".")[0] != CONTRACT_VERSION.split(".")[0]:
        mend = "use the client and the sampler of one major version"
        return bad("contract", f"the sampler's is {theirs}, ours {CONTRACT_VERSION}", mend)
    return ok("contract", f"the sampler's is {theirs}, ours {CONTRACT_VERSION}")


def engine(url: str) -> Finding:
    """Whether vLLM answers."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        mend = "start it (`etude-rollout serve-vllm`), or correct ETUDE_VLLM_URL"
        return bad("engine", f"{url} does not answer: {error}", mend)
    if answer.status_code != 200:
        return bad("engine", f"{url} is not well: {answer.status_code}", "restart vLLM")
    return ok("engine", f"{url} is well")
