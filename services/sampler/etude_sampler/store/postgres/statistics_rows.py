"""Statistics between arrays and rows: bit-exact both ways."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import numpy as np

from etude_sampler.statistics import Floats, Shape, TaskStatistics

from ...ports.ledger import StatisticsKey, StatisticsRows

COLUMNS = (
    "ordinal, kind, level, fence, s, f, ema, z_easy, z_hard, abs_a, reward_mean, reward_var, "
    "full_visits, n, last_version, m, v, x"
)


def unpack_rows(packed: Sequence[bytes], num: int) -> Floats:
    """Packed float64 rows as an array [N, num]."""
    if not packed:
        return np.zeros((0, num))
    return np.frombuffer(b"".join(packed), dtype="<f8").reshape(len(packed), num)


def pack_rows(values: Floats) -> list[bytes]:
    """Each row of an array as packed float64."""
    data = np.ascontiguousarray(values, dtype="<f8")
    width = data.shape[1] * 8
    whole = data.tobytes()
    return [whole[i * width : (i + 1) * width] for i in range(data.shape[0])]


def packed_fresh(shape: Shape) -> bytes:
    """The notes of a task never seen, as `x` holds them."""
    return np.array(shape.fresh, dtype="<f8").tobytes()


def unpack_notes(packed: Sequence[bytes], shape: Shape) -> Floats:
    """Values of `x` as an array [N, E]; empty ones are those of a task never seen."""
    if not shape.fresh:
        return np.zeros((len(packed), 0))
    fresh = packed_fresh(shape)
    return unpack_rows([value or fresh for value in packed], len(shape.fresh))


def read_rows(records: Sequence[asyncpg.Record], shape: Shape) -> StatisticsRows:
    """Rows of `task_statistics` as arrays."""
    num_subtasks = shape.num_subtasks

    def floats(name: str) -> Floats:
        return np.array([record[name] for record in records], dtype=np.float64)

    def ints(name: str) -> np.ndarray:
        return np.array([record[name] for record in records], dtype=np.int64)

    return StatisticsRows(
        tuple(StatisticsKey(r["ordinal"], r["kind"], r["level"]) for r in records),
        ints("fence"),
        TaskStatistics(
            s_N=floats("s"),
            f_N=floats("f"),
            ema_N=floats("ema"),
            z_easy_N=ints("z_easy"),
            z_hard_N=ints("z_hard"),
            abs_a_N=floats("abs_a"),
            m_NK=unpack_rows([r["m"] for r in records], num_subtasks),
            v_NK=unpack_rows([r["v"] for r in records], num_subtasks),
            reward_mean_N=floats("reward_mean"),
            reward_var_N=floats("reward_var"),
            full_N=ints("full_visits"),
            n_N=ints("n"),
            last_N=ints("last_version"),
            x_NE=unpack_notes([r["x"] for r in records], shape),
        ),
    )


def write_columns(rows: StatisticsRows) -> list[list[object]]:
    """One list a column of `COLUMNS`, in that order, for `unnest`."""
    values = rows.values
    return [
        [key.ordinal for key in rows.keys],
        [key.kind for key in rows.keys],
        [key.level for key in rows.keys],
        rows.fences.tolist(),
        values.s_N.tolist(),
        values.f_N.tolist(),
        values.ema_N.tolist(),
        values.z_easy_N.tolist(),
        values.z_hard_N.tolist(),
        values.abs_a_N.tolist(),
        values.reward_mean_N.tolist(),
        values.reward_var_N.tolist(),
        values.full_N.tolist(),
        values.n_N.tolist(),
        values.last_N.tolist(),
        list(pack_rows(values.m_NK)),
        list(pack_rows(values.v_NK)),
        list(pack_rows(values.x_NE)),
    ]
