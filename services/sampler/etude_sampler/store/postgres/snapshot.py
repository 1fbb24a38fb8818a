"""Snapshots of a run's statistics and predictions: COPY rows to compressed columns and back.

`checkpoints` stores them, `restoring` writes them into tables. Rows travel as PostgreSQL's binary
COPY, which numpy reads as one structured array, so that a million tasks take about a second.
Every value keeps its bits: floats and packed arrays are moved, never computed with.

    data   = zstd(content)           format 1
    content = length of head (u4) | head (JSON) | columns, little-endian, in the order below
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from numpy.typing import NDArray

FORMAT = 1
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_LEVEL = 1
_CHUNK_ROWS = 50_000
_EMPTY = "V0"
"""Arrays of a run without sub-tasks; numpy has no such type, so the column is left out."""
Table = dict[str, NDArray[np.generic]]
"""Columns by name, equally long."""

STATISTICS = (
    ("ordinal", "i4"),
    ("kind", "i4"),
    ("level", "i4"),
    ("fence", "i8"),
    ("s", "f8"),
    ("f", "f8"),
    ("ema", "f8"),
    ("z_easy", "i4"),
    ("z_hard", "i4"),
    ("abs_a", "f8"),
    ("reward_mean", "f8"),
    ("reward_var", "f8"),
    ("full_visits", "i4"),
    ("n", "i4"),
    ("last_version", "i4"),
    ("m", "V"),
    ("v", "V"),
    ("x", "X"),
)
"""Columns of `task_statistics`; `kind` is an index into the snapshot's kinds, `V` is packed [K],
`X` packed [E]."""
PREDICTIONS = (("ordinal", "i4"), ("value", "f8"), ("policy_version", "i4"))
"""Columns of `predictions`."""


class SnapshotDamaged(ValueError):
    """Bytes that are not, or not any more, what was stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A run's statistics and predictions at one moment."""

    num_subtasks: int
    kinds: tuple[str, ...]
    """Names of the scaffold kinds, sorted."""
    statistics: Table
    predictions: Table
    num_notes: int = 0
    """E: values of the run's notes."""

    @property
    def num_statistics(self) -> int:
        """Rows of statistics."""
        return len(self.statistics["ordinal"])

    def with_notes(self, took: Sequence[int], fresh: Sequence[float]) -> Snapshot:
        """The same with other notes: value e is that of column `took[e]`, or fresh at -1."""
        num, width = self.num_statistics, len(fresh)
        new_NE = np.tile(np.array(fresh, dtype="<f8"), (num, 1))
        if self.num_notes:
            held = np.ascontiguousarray(self.statistics["x"]).view("<f8").reshape(num, -1)
            for e, column in enumerate(took):
                if column >= 0:
                    new_NE[:, e] = held[:, column]
        table = {name: column for name, column in self.statistics.items() if name != "x"}
        if width:
            table["x"] = np.frombuffer(new_NE.tobytes(), dtype=f"V{8 * width}", count=num)
        return replace(self, statistics=table, num_notes=width)


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot as it is stored."""

    data: bytes
    sha256: str
    """Of the content before compression."""


def _types(
    columns: Sequence[tuple[str, str]], num_subtasks: int, order: str, *, num_notes: int
) -> list[tuple[str, str]]:
    packed = {"V": f"V{8 * num_subtasks}", "X": f"V{8 * num_notes}"}
    return [(name, packed.get(kind, order + kind)) for name, kind in columns]


def _copy_row(types: Sequence[tuple[str, str]]) -> np.dtype[np.void]:
    """A row of binary COPY: the number of fields, then length and value of each."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in types:
        fields += [(f"{name}:bytes", ">i4"), *([] if kind == _EMPTY else [(name, kind)])]
    return np.dtype(fields)


def _width(kind: str) -> int:
    return 0 if kind == _EMPTY else np.dtype(kind).itemsize


def parse_copy(
    data: bytes, columns: Sequence[tuple[str, str]], num_subtasks: int, *, num_notes: int = 0
) -> Table:
    """The columns of `COPY ... TO STDOUT (FORMAT binary)`.

    Raises:
        SnapshotDamaged: a row of another shape.
    """
    row = _copy_row(_types(columns, num_subtasks, ">", num_notes=num_notes))
    if data[: len(_SIGNATURE)] != _SIGNATURE or data[-2:] != _TRAILER:
        raise SnapshotDamaged("not the binary form of COPY")
    body = memoryview(data)[len(_SIGNATURE) : -2]
    if len(body) % row.itemsize:
        raise SnapshotDamaged("rows of different lengths")
    rows = np.frombuffer(body, dtype=row)
    if np.any(rows["fields"] != len(columns)):
        raise SnapshotDamaged("rows of different lengths")
    table: Table = {}
    for name, kind in _types(columns, num_subtasks, "<", num_notes=num_notes):
        if np.any(rows[f"{name}:bytes"] != _width(kind)):
            raise SnapshotDamaged(f"column {name} has values of another width")
        if kind != _EMPTY:
            table[name] = rows[name].astype(kind)
    return table


def copy_chunks(
    table: Table, columns: Sequence[tuple[str, str]], *, texts: Sequence[tuple[str, str]]
) -> Iterator[bytes]:
    """Chunks of binary COPY: `texts` (name, value), the same in every row, then `columns`."""
    constants = [(name, value.encode()) for name, value in texts]
    types = [(name, f"V{len(value)}") for name, value in constants]
    types += [
        (name, _big_endian(table[name].dtype) if name in table else _EMPTY) for name, _ in columns
    ]
    row = _copy_row(types)
    num = len(table[columns[0][0]]) if columns else 0
    yield _SIGNATURE
    for first in range(0, num, _CHUNK_ROWS):
        part = slice(first, min(first + _CHUNK_ROWS, num))
        rows = np.zeros(part.stop - part.start, dtype=row)
        rows["fields"] = len(types)
        for name, kind in types:
            rows[f"{name}:bytes"] = _width(kind)
        for name, value in constants:
            if value:
                rows[name] = np.void(value)
        for name, _ in columns:
            if name in table:
                rows[name] = table[name][part]
        yield rows.tobytes()
    yield _TRAILER


def _big_endian(kind: np.dtype[np.generic]) -> str:
    return kind.str.replace("|", "") if kind.kind == "V" else ">" + kind.str[1:]


def pack(snapshot: Snapshot) -> Packed:
    """Compress a snapshot."""
    head = json.dumps(
        {
            "num_subtasks": snapshot.num_subtasks,
            **({"num_notes": snapshot.num_notes} if snapshot.num_notes else {}),
            "kinds": list(snapshot.kinds),
            "num_statistics": snapshot.num_statistics,
            "num_predictions": len(snapshot.predictions["ordinal"]),
        }
    ).encode()
    parts = [len(head).to_bytes(4, "little"), head]
    for table, columns in ((snapshot.statistics, STATISTICS), (snapshot.predictions, PREDICTIONS)):
        parts += [table[name].tobytes() for name, _ in columns if name in table]
    content = b"".join(parts)
    return Packed(
        zstandard.ZstdCompressor(level=_LEVEL).compress(content),
        hashlib.sha256(content).hexdigest(),
    )


def unpack(data: bytes, *, sha256: str, number: int) -> Snapshot:
    """The snapshot of stored bytes.

    Args:
        data: as `Packed.data`.
        sha256: as `Packed.sha256`.
        number: the format that they were stored in.

    Raises:
        SnapshotDamaged: another digest than when they were stored, or a newer format.
    """
    if number != FORMAT:
        raise SnapshotDamaged(f"format {number}; this version reads format {FORMAT}")
    try:
        content = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise SnapshotDamaged(f"it cannot be decompressed: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SnapshotDamaged("its content is not what was stored (sha256 differs)")
    at = 4 + int.from_bytes(content[:4], "little")
    head = json.loads(content[4:at])
    num_notes = head.get("num_notes", 0)
    tables: list[Table] = []
    for columns, count in ((STATISTICS, "num_statistics"), (PREDICTIONS, "num_predictions")):
        table: Table = {}
        for name, kind in _types(columns, head["num_subtasks"], "<", num_notes=num_notes):
            if kind == _EMPTY:
                continue
            table[name] = np.frombuffer(content, dtype=kind, count=head[count], offset=at)
            at += table[name].nbytes
        tables.append(table)
    return Snapshot(
        head["num_subtasks"], tuple(head["kinds"]), tables[0], tables[1], num_notes=num_notes
    )
