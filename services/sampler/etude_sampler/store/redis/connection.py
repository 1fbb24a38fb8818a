"""The Redis client: no hidden retries of mutating calls, one error for every outage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import DependencyUnavailable


def connect(url: str, *, pool_size: int, timeout_s: float) -> Redis:
    """A client with a bounded pool. redis-py's own ten retries are switched off: a lost reply
    must not run a script twice behind our back (every script is idempotent all the same).
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=pool_size,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def outages() -> AsyncIterator[None]:
    """Turn connection faults into `DependencyUnavailable`; script faults stay bugs."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise DependencyUnavailable(f"Redis does not answer: {error}") from error
    except ResponseError as error:
        text = str(error)
        if text.startswith(("LOADING", "OOM", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "BUSY")):
            raise DependencyUnavailable(f"Redis refuses: {text}") from error
        raise
    except RedisError as error:
        raise DependencyUnavailable(f"Redis does not answer: {error}") from error
