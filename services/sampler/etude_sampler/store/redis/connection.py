"""The Redis client: no hidden retries of mutating calls, one error for every outage.

It also knows which server process it speaks to: after a restart or a failover another one answers,
perhaps with an older copy of the data (invariant 5).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import DependencyUnavailable, RedisFull


@dataclass(slots=True)
class ServerSeen:
    """The server process that the newest connection reached."""

    run_id: str = ""
    """Its run id: another one after every start; empty before the first connection."""

    async def greet(self, connection: AbstractConnection) -> None:
        """Set up a new connection and ask who answers."""
        await connection.on_connect_check_health(check_health=True)
        await connection.send_command("INFO", "server")
        found = re.search(rb"run_id:(\w+)", bytes(await connection.read_response()))
        if found is None:
            raise RedisConnectionError("the server does not tell its run id (INFO server)")
        self.run_id = found[1].decode()


class Client(Redis):
    """A client that remembers which server process it speaks to."""

    def __init__(self, pool: BlockingConnectionPool, seen: ServerSeen) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self.seen = seen

    async def server(self) -> str:
        """Run id of the server process."""
        if not self.seen.run_id:
            async with outages():
                await self.ping()
        return self.seen.run_id

    async def forget_demoted(self, error: DependencyUnavailable) -> None:
        """Let go of idle connections to a server that takes no writes any more.

        After a failover the name may lead to the new primary, but only for new connections.
        """
        if isinstance(error.__cause__, ReadOnlyError):
            await self.connection_pool.disconnect(inuse_connections=False)


def connect(url: str, *, pool_size: int, timeout_s: float) -> Client:
    """A client with a bounded pool. redis-py's own ten retries are switched off: a lost reply
    must not run a script twice behind our back (every script is idempotent all the same).
    """
    seen = ServerSeen()
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=pool_size,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        redis_connect_func=seen.greet,
    )
    return Client(pool, seen)


_AWAY = (
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MISCONF",
    "NOREPLICAS",
)
"""Words by which a server says that it takes no commands, or no writes, for now."""


@asynccontextmanager
async def outages() -> AsyncIterator[None]:
    """Turn connection faults and a server's refusals into errors; script faults stay bugs.

    redis-py has a class for some of the words and cuts the word off; others come as they are.

    Raises:
        RedisFull: the server is at its memory limit; nothing was written.
        DependencyUnavailable: the server does not answer, or takes no commands for now.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise RedisFull(f"Redis is at its memory limit: {error}") from error
    except (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError) as error:
        raise DependencyUnavailable(f"Redis refuses: {error}") from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise DependencyUnavailable(f"Redis does not answer: {error}") from error
    except ResponseError as error:
        text = str(error)
        if text.startswith("OOM"):
            raise RedisFull(f"Redis is at its memory limit: {text}") from error
        if text.startswith(_AWAY):
            raise DependencyUnavailable(f"Redis refuses: {text}") from error
        raise
    except RedisError as error:
        raise DependencyUnavailable(f"Redis does not answer: {error}") from error
