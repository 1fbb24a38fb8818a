"""Snapshots keep every bit: through columns, compression and the binary form of COPY."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_sampler.store.postgres.snapshot import (
    FORMAT,
    PREDICTIONS,
    STATISTICS,
    Snapshot,
    SnapshotDamaged,
    Table,
    copy_chunks,
    pack,
    parse_copy,
    unpack,
)

ODD_BITS = struct.unpack("<d", bytes.fromhex("0100000000f8ff7f"))[0]
"""A NaN with a payload: equal to nothing, so only its bits tell it."""


def table(num: int, num_subtasks: int, *, seed: int, num_notes: int = 0) -> Table:
    """Statistics of `num` rows with any bits whatever."""
    rng = np.random.Generator(np.random.Philox(seed))
    columns: Table = {}
    for name, kind in STATISTICS:
        if kind in "VX":
            if width := num_subtasks if kind == "V" else num_notes:
                raw = rng.bytes(num * 8 * width)
                columns[name] = np.frombuffer(raw, dtype=f"V{8 * width}", count=num)
        else:
            raw = rng.bytes(num * int(kind[1:]))
            columns[name] = np.frombuffer(raw, dtype="<" + kind, count=num)
    columns["kind"] = rng.integers(0, 2, num).astype("<i4")
    columns["ordinal"] = np.arange(num, dtype="<i4")
    return columns


def snapshot(num: int, num_subtasks: int, *, seed: int, num_notes: int = 0) -> Snapshot:
    """A snapshot with two kinds and a prediction whose value is an odd NaN."""
    predictions: Table = {
        "ordinal": np.array([3], dtype="<i4"),
        "value": np.array([ODD_BITS], dtype="<f8"),
        "policy_version": np.array([7], dtype="<i4"),
    }
    statistics = table(num, num_subtasks, seed=seed, num_notes=num_notes)
    return Snapshot(num_subtasks, ("hint", "none"), statistics, predictions, num_notes)


def bits(columns: Table) -> dict[str, bytes]:
    """Every column's bytes."""
    return {name: column.tobytes() for name, column in columns.items()}


@given(st.integers(0, 40), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32))
def test_what_is_packed_comes_back_to_the_bit(
    num: int, num_subtasks: int, num_notes: int, seed: int
) -> None:
    before = snapshot(num, num_subtasks, seed=seed, num_notes=num_notes)
    packed = pack(before)
    after = unpack(packed.data, sha256=packed.sha256, number=FORMAT)
    assert (after.num_subtasks, after.kinds) == (num_subtasks, ("hint", "none"))
    assert after.num_notes == num_notes
    assert bits(after.statistics) == bits(before.statistics)
    assert bits(after.predictions) == bits(before.predictions)
    assert pack(after).sha256 == packed.sha256


@given(st.integers(0, 40), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32))
def test_copy_keeps_every_bit(num: int, num_subtasks: int, num_notes: int, seed: int) -> None:
    before = table(num, num_subtasks, seed=seed, num_notes=num_notes)
    data = b"".join(copy_chunks(before, STATISTICS, texts=[]))
    assert bits(parse_copy(data, STATISTICS, num_subtasks, num_notes=num_notes)) == bits(before)


def test_a_fork_takes_the_notes_that_it_shares_and_fresh_ones() -> None:
    before = snapshot(3, 2, seed=4, num_notes=2)
    held = np.frombuffer(before.statistics["x"].tobytes(), "<u8").reshape(3, 2)
    after = before.with_notes([1, -1, 0], [9.0, 0.5, 9.0])
    new = np.frombuffer(after.statistics["x"].tobytes(), "<u8").reshape(3, 3)
    assert after.num_notes == 3
    assert new[:, [0, 2]].tolist() == held[:, [1, 0]].tolist(), "every bit"
    assert new[:, 1].view("<f8").tolist() == [0.5] * 3
    assert bits({**after.statistics, "x": np.zeros(0)}) == bits(
        {**before.statistics, "x": np.zeros(0)}
    )
    assert "x" not in before.with_notes([], []).statistics
    assert snapshot(2, 1, seed=1).with_notes([-1], [2.0]).num_notes == 1


def test_a_damaged_snapshot_is_refused() -> None:
    packed = pack(snapshot(5, 2, seed=1))
    other = pack(snapshot(5, 2, seed=2))
    for data, sha256, number in (
        (packed.data, other.sha256, FORMAT),
        (packed.data[:-9], packed.sha256, FORMAT),
        (b"not zstd", packed.sha256, FORMAT),
        (packed.data, packed.sha256, FORMAT + 1),
    ):
        with pytest.raises(SnapshotDamaged):
            unpack(data, sha256=sha256, number=number)


def test_rows_of_another_shape_are_refused() -> None:
    data = b"".join(copy_chunks(table(4, 2, seed=0), STATISTICS, texts=[]))
    for spoiled in (data[:-3], b"x" + data[1:], data[:-10] + data[-2:]):
        with pytest.raises(SnapshotDamaged):
            parse_copy(spoiled, STATISTICS, 2)
    with pytest.raises(SnapshotDamaged):
        parse_copy(data, STATISTICS, 3)
    with pytest.raises(SnapshotDamaged):
        parse_copy(data, PREDICTIONS, 2)
