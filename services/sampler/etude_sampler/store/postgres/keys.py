"""API keys in PostgreSQL: digests, scopes, runs, ends. Its clock decides when a key ends."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from etude_proto.v1 import KeyCreate, Scope

from ...errors import DependencyUnavailable, IllegalTransition, KeyNotFound
from ...ports.keys import KeyRing, KeyRow, LiveKey
from .engine import transaction
from .tables import api_keys

MAX_LIVE = 1000
"""Live keys at most: every replica holds all of them (our choice)."""
_TABLE = api_keys.c
_LIVE = sa.and_(
    _TABLE.revoked_at.is_(None),
    sa.or_(_TABLE.expires_at.is_(None), _TABLE.expires_at > sa.func.now()),
)
_SHOWN = [column for column in _TABLE if column.name != "digest"]


def _row(row: sa.RowMapping) -> KeyRow:
    return KeyRow(
        id=row["id"],
        label=row["label"],
        scopes=tuple(Scope(word) for word in row["scopes"]),
        runs=None if row["runs"] is None else tuple(row["runs"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )


class PostgresKeys:
    """`ports.keys.Keys`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def ring(self) -> KeyRing:
        """All live keys, and whether there ever was one.

        Raises:
            DependencyUnavailable: no answer, or a schema of before keys.
        """
        left_s = sa.extract("epoch", _TABLE.expires_at - sa.func.now()).label("left_s")
        columns = [_TABLE.id, _TABLE.digest, _TABLE.scopes, _TABLE.runs, left_s]
        try:
            async with transaction(self._engine) as connection:
                found = (await connection.execute(sa.select(*columns).where(_LIVE))).all()
                ever = bool(found) or bool(
                    await connection.scalar(sa.select(sa.exists(sa.select(_TABLE.id))))
                )
        except sa.exc.ProgrammingError as error:
            raise DependencyUnavailable(
                "the database has no table of API keys; run `etude migrate`"
            ) from error
        live = {
            row.id: LiveKey(
                row.id,
                row.digest,
                frozenset(Scope(word) for word in row.scopes),
                None if row.runs is None else frozenset(row.runs),
                None if row.left_s is None else float(row.left_s),
            )
            for row in found
        }
        return KeyRing(live, ever)

    async def create(self, key: KeyCreate) -> KeyRow:
        """Store a key; the stored one if the same is there already.

        Raises:
            IllegalTransition: the id belongs to another key, or `MAX_LIVE` keys live.
        """
        digest = bytes.fromhex(key.digest)
        lasts = sa.func.make_interval(0, 0, 0, 0, 0, 0, key.ttl_s)
        end = None if key.ttl_s is None else sa.func.now() + lasts
        statement = (
            insert(api_keys)
            .values(
                id=key.id,
                digest=digest,
                label=key.label,
                scopes=sorted({scope.value for scope in key.scopes}),
                runs=None if key.runs is None else sorted(set(key.runs)),
                expires_at=end,
            )
            .on_conflict_do_nothing(index_elements=["id"])
        )
        async with transaction(self._engine) as connection:
            count = sa.select(sa.func.count()).select_from(api_keys).where(_LIVE)
            if (await connection.scalar(count) or 0) >= MAX_LIVE:
                raise IllegalTransition(f"{MAX_LIVE} keys live already; revoke some")
            await connection.execute(statement)
            stored = await connection.scalar(sa.select(_TABLE.digest).where(_TABLE.id == key.id))
        if stored != digest:
            raise IllegalTransition(f"{key.id} is another key's id; make a new key")
        return await self.get(key.id)

    async def get(self, key_id: str) -> KeyRow:
        """Raises `KeyNotFound`."""
        return await self._one(sa.select(*_SHOWN).where(_TABLE.id == key_id), key_id)

    async def page(self, *, after: str | None, limit: int) -> list[KeyRow]:
        """Keys by id, ended ones too."""
        statement = sa.select(*_SHOWN).where(_TABLE.id > (after or "")).order_by(_TABLE.id)
        async with transaction(self._engine) as connection:
            found = await connection.execute(statement.limit(limit))
            return [_row(row) for row in found.mappings()]

    async def revoke(self, key_id: str) -> KeyRow:
        """End a key, once. Raises `KeyNotFound`."""
        statement = (
            sa.update(api_keys)
            .where(_TABLE.id == key_id)
            .values(revoked_at=sa.func.coalesce(_TABLE.revoked_at, sa.func.now()))
            .returning(*_SHOWN)
        )
        return await self._one(statement, key_id)

    async def used(self, ids: Sequence[str]) -> None:
        """Note the use, unless a replica did so within the minute."""
        minute = sa.func.date_trunc("minute", sa.func.now())
        statement = (
            sa.update(api_keys)
            .where(
                _TABLE.id.in_(ids),
                sa.or_(_TABLE.last_used_at.is_(None), _TABLE.last_used_at < minute),
            )
            .values(last_used_at=minute)
        )
        async with transaction(self._engine) as connection:
            await connection.execute(statement)

    async def _one(self, statement: sa.Executable, key_id: str) -> KeyRow:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            raise KeyNotFound(f"no key {key_id!r}")
        return _row(row)
