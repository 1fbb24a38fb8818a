"""Which tasks a run can draw, and what is asked about all of them. Part of `catalog`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from etude_proto.v1 import Split
from etude_proto.v1.curriculum import LanesBy
from etude_sampler.curriculum.features import FEATURES
from etude_sampler.curriculum.levels import lane_members

from ...ports.catalog import DrawableTasks
from .bulk import MEMBERS, read_drawable
from .engine import raw, transaction
from .tables import tasks

_WITH_AID = """
SELECT ordinal FROM (
    SELECT ordinal, aids FROM tasks WHERE dataset_id = $1 AND split = 'train'
    AND ($2::text[] IS NULL OR source = ANY($2)) ORDER BY ordinal LIMIT $4
) AS first WHERE aids IS NOT NULL AND convert_from(aids, 'UTF8')::jsonb ? $3 ORDER BY ordinal
"""
_WITHOUT_REFERENCE = """
SELECT count(*) FROM (
    SELECT body FROM tasks WHERE dataset_id = $1 AND split = 'train'
    AND ($2::text[] IS NULL OR source = ANY($2)) ORDER BY ordinal LIMIT $3
) AS first
WHERE CASE WHEN position($4::bytea IN body) > 0
THEN convert_from(body, 'UTF8')::jsonb -> 'reference' = 'null'::jsonb ELSE false END
"""
"""Bodies are parsed only where the bytes `"reference":null` stand, as `encode_task` writes them:
unescaped quotes are no part of a text, but metadata may have such a field."""
_NULL_REFERENCE = b'"reference":null'
_EPISODES = """
SELECT count(*) FROM (
    SELECT body, aids FROM tasks WHERE dataset_id = $1 AND split = 'train'
    AND ($2::text[] IS NULL OR source = ANY($2)) ORDER BY ordinal LIMIT $3
) AS first
WHERE CASE WHEN position($4::bytea IN body) > 0
THEN convert_from(body, 'UTF8')::jsonb ? 'environment' ELSE false END
AND (NOT $5 OR jsonb_typeof(convert_from(aids, 'UTF8')::jsonb -> 'solution') = 'array')
"""
_ENVIRONMENT = b'"environment":'


class PostgresDrawable:
    """The questions of `ports.catalog.Catalog` about the tasks that can be drawn."""

    _engine: AsyncEngine

    async def dataset_subtasks(
        self, dataset_id: str, sources: list[str] | None, *, lanes_by: LanesBy = "subtasks"
    ) -> dict[str, int]:
        """Drawable tasks per sub-task (source, level); the key '' counts all."""
        drawable = self._drawable(dataset_id, sources)
        name = sa.func.unnest(sa.literal_column(MEMBERS[lanes_by])).label("name")
        async with transaction(self._engine) as connection:
            total = await connection.scalar(
                sa.select(sa.func.count()).select_from(tasks).where(*drawable)
            )
            unnested = sa.select(name).where(*drawable).subquery()
            counted = await connection.execute(
                sa.select(unnested.c.name, sa.func.count()).group_by(unnested.c.name)
            )
            found = {"": int(total or 0)}
            for stored, num in counted:
                (lane,) = lane_members(lanes_by, [stored])
                found[lane] = found.get(lane, 0) + num
            return found

    async def dataset_features(
        self, dataset_id: str, sources: list[str] | None
    ) -> tuple[list[str], int]:
        """Sources of the drawable tasks, and the number of features that users gave with all."""
        size = sa.func.coalesce(sa.func.octet_length(tasks.c.features), 0)
        statement = (
            sa.select(tasks.c.source, sa.func.min(size), sa.func.max(size))
            .where(*self._drawable(dataset_id, sources))
            .group_by(tasks.c.source)
        )
        async with transaction(self._engine) as connection:
            found = (await connection.execute(statement)).all()
        sizes = {size for row in found for size in row[1:]}
        given = sizes.pop() // 8 - len(FEATURES) if len(sizes) == 1 else 0
        return sorted(row[0] for row in found), max(0, given)

    async def tasks_with_aid(
        self, dataset_id: str, sources: list[str] | None, aid: str, *, among: int
    ) -> list[int]:
        """Ordinals of those of the first `among` drawable tasks that bring an aid, ascending."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(_WITH_AID, dataset_id, sources, aid, among)
        return [record["ordinal"] for record in found]

    async def num_without_reference(
        self, dataset_id: str, sources: list[str] | None, *, among: int
    ) -> int:
        """How many of the first `among` drawable tasks have no gold."""
        async with raw(self._engine) as connection:
            found = await connection.fetchval(
                _WITHOUT_REFERENCE, dataset_id, sources, among, _NULL_REFERENCE
            )
        return int(found)

    async def num_episodes(
        self, dataset_id: str, sources: list[str] | None, *, among: int, solved_in_turns: bool
    ) -> int:
        """How many of the first `among` drawable tasks have an environment (and such aids)."""
        async with raw(self._engine) as connection:
            found = await connection.fetchval(
                _EPISODES, dataset_id, sources, among, _ENVIRONMENT, solved_in_turns
            )
        return int(found)

    def _drawable(self, dataset_id: str, sources: list[str] | None) -> list[sa.ColumnElement[bool]]:
        where = [tasks.c.dataset_id == dataset_id, tasks.c.split == Split.TRAIN.value]
        if sources is not None:
            where.append(tasks.c.source.in_(sources))
        return where

    async def drawable(
        self,
        dataset_id: str,
        sources: list[str] | None,
        *,
        chunk: int,
        lanes_by: LanesBy = "subtasks",
        with_features: bool = False,
    ) -> AsyncIterator[DrawableTasks]:
        """Chunks of drawable tasks by ordinal."""
        last = -1
        while True:
            async with raw(self._engine) as connection:
                found = await read_drawable(
                    connection,
                    dataset_id,
                    sources,
                    after=last,
                    limit=chunk,
                    lanes_by=lanes_by,
                    with_features=with_features,
                )
            if found is None:
                return
            last = int(found.ordinals_N[-1])
            yield found
