"""What is reached over HTTP: a sampler that runs, and the vLLM engine of a rollout worker."""

from __future__ import annotations

import re
from dataclasses import replace
from textwrap import shorten

import httpx

from etude_client import EtudeClient, EtudeError
from etude_client.errors import ApiError, Unreachable
from etude_proto import CONTRACT_VERSION

from .finding import Finding, bad, ok, warn

_TIMEOUT_S = 5.0
MAX_SAID = 200
"""Longest that is told of an answer, in characters."""


def sampler(url: str, key: str | None) -> list[Finding]:
    """Whether a sampler answers, is ready, speaks our contract and takes our key."""
    return [_without_password(one) for one in _sampler(url, key)]


def engine(url: str) -> Finding:
    """Whether vLLM answers."""
    return _without_password(_engine(url))


def _without_password(found: Finding) -> Finding:
    """A finding without what stands before the host in an address."""
    return replace(found, detail=re.sub(r"://[^/\s]*@", "://", found.detail))


def _sampler(url: str, key: str | None) -> list[Finding]:
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
        said = shorten(str(error), MAX_SAID, placeholder=" ...")
        if isinstance(error, ApiError) and error.status != 404 and not _is_html(said):
            return [bad("sampler", f"{url}: {said}", "look at its /readyz and its log")]
        mend = "correct ETUDE_SAMPLER_URL, or the proxy in between"
        return [bad("sampler", f"what answers at {url} is not a sampler: {said}", mend)]
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


def _engine(url: str) -> Finding:
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_S)
    except httpx.TimeoutException:
        detail = f"{url} does not answer within {_TIMEOUT_S:g} s"
        return bad("engine", detail, "look at the network and its firewalls, and at vLLM's log")
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        return bad("engine", f"{url!r}: {error}", "begin ETUDE_VLLM_URL with http://")
    except httpx.HTTPError as error:
        mend = "start it (`etude-rollout serve-vllm`), or correct ETUDE_VLLM_URL"
        return bad("engine", f"{url} does not answer: {error}", mend)
    if answer.status_code >= 500:
        return bad("engine", f"{url} is not well: {answer.status_code}", "restart vLLM")
    if answer.status_code != 200 or not _serves_models(url):
        return bad("engine", f"what answers at {url} is not vLLM", "correct ETUDE_VLLM_URL")
    return ok("engine", f"{url} is well")


def _serves_models(url: str) -> bool:
    """Whether it has an engine's list of models, perhaps behind a key."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/v1/models", timeout=_TIMEOUT_S)
        return answer.status_code == 401 or "data" in answer.json()
    except (httpx.HTTPError, ValueError, TypeError):
        return False


def _is_html(said: str) -> bool:
    return "<html" in said.lower()
