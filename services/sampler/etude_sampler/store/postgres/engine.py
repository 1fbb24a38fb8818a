"""The PostgreSQL engine: one pool, bounded waits, one error for every outage.

The control plane speaks SQLAlchemy Core. The report path borrows the same pool's asyncpg
connection and runs its few fixed statements on it directly (ADR 0004).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ...errors import DependencyUnavailable, SamplerError


def create_engine(url: str, *, pool_size: int, timeout_s: float) -> AsyncEngine:
    """An engine whose every wait ends: pool, connect, lock, statement."""
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=False,
        connect_args={
            "timeout": timeout_s,
            "command_timeout": timeout_s,
            "server_settings": {
                "application_name": "etude-sampler",
                "statement_timeout": str(int(timeout_s * 1000)),
                "idle_in_transaction_session_timeout": str(int(timeout_s * 2000)),
            },
        },
    )


_OUTAGES = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of a statement
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    OSError,
    TimeoutError,
)


@asynccontextmanager
async def outages() -> AsyncIterator[None]:
    """Turn connection faults and time-outs into `DependencyUnavailable`."""
    try:
        yield
    except _OUTAGES as error:
        raise DependencyUnavailable(f"PostgreSQL does not answer: {error}") from error
    except sa.exc.DBAPIError as error:
        driver_error = None if error.orig is None else error.orig.__cause__
        if error.connection_invalidated or isinstance(driver_error, _OUTAGES):
            raise DependencyUnavailable(f"PostgreSQL does not answer: {error.orig}") from error
        raise


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A Core connection in a transaction that commits on exit."""
    async with outages(), engine.begin() as connection:
        yield connection


async def fetch_pruned(
    connection: asyncpg.Connection, statement: str, *arguments: object
) -> list[asyncpg.Record]:
    """Rows of a statement that reads the ledger, planned for these arguments.

    A cached statement would get a generic plan at its sixth use, which opens and locks the
    partitions of every run (0.7 s at 2,000 runs); a fresh one opens those of its own run.
    """
    prepared = await connection.prepare(statement)
    rows: list[asyncpg.Record] = await prepared.fetch(*arguments)
    return rows


@asynccontextmanager
async def raw(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """The pool's asyncpg connection, outside SQLAlchemy's transaction.

    A connection that failed in mid-statement is dropped from the pool, not returned to it.
    """
    async with outages():
        connection = await engine.connect()
        try:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, asyncpg.Connection)
            yield driver
        except (SamplerError, asyncpg.IntegrityConstraintViolationError):
            raise
        except BaseException:
            await connection.invalidate()
            raise
        finally:
            await connection.close()
