"""Dropping all that Redis holds of a run that is not, or not yet, in PostgreSQL.

For `service.removal` and for imports. A run that is served is never forgotten but rebuilt, which
begins with `loading`; there the log's last entries are kept first.
"""

from __future__ import annotations

from .connection import Client, outages
from .keys import RunKeys

_UNLINK = 1000


async def forget_run(redis: Client, run_id: str) -> None:
    """Unlink every key of a run; repeatable.

    Raises:
        DependencyUnavailable: Redis does not answer.
    """
    async with outages():
        names = [name async for name in redis.scan_iter(match=RunKeys(run_id).pattern, count=1000)]
        for first in range(0, len(names), _UNLINK):
            await redis.unlink(*names[first : first + _UNLINK])
