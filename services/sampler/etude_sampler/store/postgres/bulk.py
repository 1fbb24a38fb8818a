"""Reading a run in bulk for a rebuild: tasks by their sub-tasks, statistics as binary COPY.

A row of statistics has a fixed width (its packed arrays hold one float64 a sub-task), so numpy
reads a chunk as one structured array. Neighbours: `catalog` and `ledger_views` call it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import asyncpg
import numpy as np

from etude_proto.v1.curriculum import LanesBy
from etude_sampler.curriculum.levels import lane_members
from etude_sampler.datasets.features import features_of_body
from etude_sampler.statistics import Floats, Ints, Shape, TaskStatistics

from ...ports.catalog import DrawableTasks, TaskFeatures
from ...ports.ledger import BareStatistics
from .statistics_rows import packed_fresh

_COLUMNS = (
    ("ordinal", "i4"),
    ("s", "f8"),
    ("f", "f8"),
    ("ema", "f8"),
    ("z_easy", "i4"),
    ("z_hard", "i4"),
    ("abs_a", "f8"),
    ("m", "V"),
    ("v", "V"),
    ("reward_mean", "f8"),
    ("reward_var", "f8"),
    ("full_visits", "i4"),
    ("n", "i4"),
    ("last_version", "i4"),
)
"""What a rebuild reads of `task_statistics`; `V` is packed, one float64 a sub-task."""
_HEADER, _TRAILER = 19, 2
"""Bytes of binary COPY around its rows."""

MEMBERS: Mapping[LanesBy, str] = {
    "subtasks": "subtasks",
    "source": "ARRAY[source]",
    "level": "ARRAY[coalesce(convert_from(body, 'UTF8')::json #>> '{metadata,pass_rate}', '')]",
}
"""Of `tasks`: what says in which component lanes a task stands (`levels.lane_members`)."""
_TASKS = """
SELECT members, array_agg(ordinal) AS ordinals FROM (
    SELECT ordinal, {members} AS members FROM tasks WHERE dataset_id = $1 AND ordinal > $2
    AND split = 'train' AND ($3::text[] IS NULL OR source = ANY($3)) ORDER BY ordinal LIMIT $4
) AS chunk GROUP BY members
"""
_FEATURES = """
SELECT ordinal, source, features, CASE WHEN features IS NULL THEN body END AS body FROM tasks
WHERE dataset_id = $1 AND ordinal > $2 AND split = 'train'
AND ($3::text[] IS NULL OR source = ANY($3)) ORDER BY ordinal LIMIT $4
"""
_NOTES = ("x", "X")
"""Packed like `V`, one float64 a value of the run's notes; read only if there are any."""
_READ = ", ".join(name for name, _ in _COLUMNS)
_STATISTICS = f"""
SELECT {_READ} FROM task_statistics
WHERE run_id = $1 AND kind = 'none' AND level = 0 AND ordinal BETWEEN $2 AND $3 ORDER BY ordinal
"""

_STATISTICS_AND_NOTES = _STATISTICS.replace(
    _READ, f"{_READ}, CASE WHEN x = ''::bytea THEN $4::bytea ELSE x END"
)

LOADING_EPOCH = """
UPDATE runs SET epoch = CASE WHEN loading_epoch = epoch THEN epoch ELSE epoch + 1 END,
    loading_epoch = CASE WHEN loading_epoch = epoch THEN epoch ELSE epoch + 1 END
WHERE id = $1 RETURNING epoch
"""
"""An epoch that was never opened is used again: attempts that fail use up no epochs."""

LOADED = """
UPDATE runs SET loading_epoch = NULL, last_rebuild = $3::text::jsonb
WHERE id = $1 AND epoch = $2 AND loading_epoch = $2 RETURNING epoch
"""


def _row(shape: Shape) -> np.dtype[np.void]:
    """A row of binary COPY: the number of fields, then length and value of each."""
    fields = [("fields", ">i2")]
    widths = {"V": 8 * shape.num_subtasks, "X": 8 * len(shape.fresh)}
    for name, kind in [*_COLUMNS, *([_NOTES] if shape.fresh else [])]:
        fields.append((f"{name}:bytes", ">i4"))
        if widths.get(kind) != 0:
            fields.append((name, f"V{widths[kind]}" if kind in widths else f">{kind}"))
    return np.dtype(fields)


async def read_drawable(
    connection: asyncpg.Connection,
    dataset_id: str,
    sources: Sequence[str] | None,
    *,
    after: int,
    limit: int,
    lanes_by: LanesBy = "subtasks",
    with_features: bool = False,
) -> DrawableTasks | None:
    """The next drawable tasks above an ordinal; None: there are no more."""
    wanted = None if sources is None else list(sources)
    statement = _TASKS.format(members=MEMBERS[lanes_by])
    records = await connection.fetch(statement, dataset_id, after, wanted, limit)
    if not records:
        return None
    parts = [np.array(record["ordinals"], dtype=np.int64) for record in records]
    ordinals = np.concatenate(parts)
    kinds = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = ordinals.argsort()
    features: tuple[TaskFeatures, ...] = ()
    if with_features:
        features = await read_features(connection, dataset_id, wanted, after=after, limit=limit)
    return DrawableTasks(
        ordinals[order],
        tuple(lane_members(lanes_by, record["members"]) for record in records),
        kinds[order],
        features,
    )


async def read_features(
    connection: asyncpg.Connection,
    dataset_id: str,
    sources: list[str] | None,
    *,
    after: int,
    limit: int,
    timeout: float | None = None,
) -> tuple[TaskFeatures, ...]:
    """Source and features of the next drawable tasks above an ordinal, by ordinal."""
    found = await connection.fetch(_FEATURES, dataset_id, after, sources, limit, timeout=timeout)
    return tuple(task_features(record) for record in found)


def task_features(record: asyncpg.Record) -> TaskFeatures:
    """A row with `ordinal`, `source`, `features`, and `body` where these are null."""
    packed = record["features"] or features_of_body(record["body"])
    return TaskFeatures(record["ordinal"], record["source"], packed)


async def read_bare(
    connection: asyncpg.Connection, run_id: str, *, first: int, last: int, shape: Shape
) -> BareStatistics:
    """Un-scaffolded statistics of the tasks `first` to `last` that have some."""
    output, num_subtasks = io.BytesIO(), shape.num_subtasks
    statement = _STATISTICS_AND_NOTES if shape.fresh else _STATISTICS
    fresh = [packed_fresh(shape)] if shape.fresh else []
    await connection.copy_from_query(
        statement, run_id, first, last, *fresh, output=output, format="binary"
    )
    body = output.getvalue()[_HEADER:-_TRAILER]
    rows = np.frombuffer(body, dtype=_row(shape))
    if np.any(rows["ordinal:bytes"] != 4) or np.any(rows["m:bytes"] != 8 * num_subtasks):
        raise ValueError(f"statistics of run {run_id} are not of {num_subtasks} sub-tasks")

    def floats(name: str) -> Floats:
        return rows[name].astype(np.float64)

    def ints(name: str) -> Ints:
        return rows[name].astype(np.int64)

    def packed(name: str, width: int = num_subtasks) -> Floats:
        if width == 0:
            return np.zeros((len(rows), 0))
        return np.ascontiguousarray(rows[name]).view("<f8").reshape(len(rows), width)

    return BareStatistics(
        ints("ordinal"),
        TaskStatistics(
            s_N=floats("s"),
            f_N=floats("f"),
            ema_N=floats("ema"),
            z_easy_N=ints("z_easy"),
            z_hard_N=ints("z_hard"),
            abs_a_N=floats("abs_a"),
            m_NK=packed("m"),
            v_NK=packed("v"),
            reward_mean_N=floats("reward_mean"),
            reward_var_N=floats("reward_var"),
            full_N=ints("full_visits"),
            n_N=ints("n"),
            last_N=ints("last_version"),
            x_NE=packed("x", len(shape.fresh)),
        ),
        body,
    )
