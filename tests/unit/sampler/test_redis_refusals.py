"""What a Redis server says when it takes no commands, or no writes, is an outage, never a bug."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import RedisError, ResponseError

from etude_sampler.errors import DependencyUnavailable, RedisFull, SamplerError
from etude_sampler.store.redis.connection import outages

FULL = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
]
AWAY = [
    "LOADING Redis is loading the dataset in memory",
    "LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "READONLY You can't write against a read only replica.",
    "READONLY Can not run script with write flag on readonly replica.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
]


def said(text: str) -> RedisError:
    """The exception that redis-py makes of an error reply."""
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    assert isinstance(error, RedisError)
    return error


@pytest.mark.parametrize(
    ("text", "kind"),
    [*((text, RedisFull) for text in FULL), *((text, DependencyUnavailable) for text in AWAY)],
)
async def test_a_refusal_of_the_server_is_retryable(text: str, kind: type[SamplerError]) -> None:
    with pytest.raises(kind) as caught:
        async with outages():
            raise said(text)
    assert caught.value.status == 503
    assert caught.value.retryable
    assert caught.value.retry_after_s


async def test_a_fault_of_a_script_stays_a_bug() -> None:
    with pytest.raises(ResponseError, match="user_script"):
        async with outages():
            raise said("ERR user_script:3: attempt to index a nil value")
