"""What a second phase asks of vLLM: the seeds after those that the first one used up."""

from __future__ import annotations

import json

from etude_rollout.engines.base import GenerationRequest, Sampling
from etude_rollout.engines.vllm_api import VllmApi
from support.scripted_server import Reply, scripted_server


async def test_a_later_request_goes_on_with_the_next_seeds() -> None:
    """vLLM gives completion j of a request the seed `seed + j`."""
    first = GenerationRequest((1, 2), 4, Sampling(max_new_tokens=3), seed=100)
    second = GenerationRequest((1, 2), 20, Sampling(max_new_tokens=3), seed=100, first=4)
    with scripted_server() as server:
        server.script("/v1/completions", Reply(body=b'{"choices": []}'))
        api = VllmApi(server.url)
        for request in (first, second):
            assert await api.complete("policy", request) == []
        await api.close()
        bodies = [json.loads(seen.body) for seen in server.seen]
    assert [(body["seed"], body["n"]) for body in bodies] == [(100, 4), (104, 20)]
