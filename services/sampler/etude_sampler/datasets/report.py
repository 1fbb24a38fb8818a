"""What an import says at its end: the summary for people, the report for programs.

Used by `cli`. The report lists every refused row; the terminal shows the first few.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from etude_client.sources.upload import Summary
from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import RowFault
from etude_proto.v1 import Dataset

SCHEMA = "etude-import-report/1"
NUM_SHOWN_FAULTS = 10


def write_report(
    path: Path, dataset: Dataset, summary: Summary, shape: Shape | None = None
) -> None:
    """Write the report as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    document = report_document(dataset, summary, shape)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def report_document(
    dataset: Dataset, summary: Summary, shape: Shape | None = None
) -> dict[str, JsonValue]:
    """Counts and every refused row; within a chunk, the sampler's refusals come last.

    `shape` is what the rows were recognised as.
    """
    errors: list[JsonValue] = [
        {
            "line": fault.line,
            "pointer": fault.pointer,
            "detail": fault.detail,
            **({"file": fault.origin} if fault.origin else {}),
        }
        for fault in summary.faults
    ]
    return {
        "schema": SCHEMA,
        "dataset": {"id": dataset.id, "name": dataset.name},
        **({} if shape is None else {"shape": str(shape)}),
        "num_rows": summary.num_rows,
        "num_created": summary.num_created,
        "num_existing": summary.num_existing,
        "num_rejected": len(summary.faults),
        "num_train": summary.num_train,
        "num_held_out": summary.num_held_out,
        "sources": dict(summary.sources),
        "errors": errors,
    }


def summary_lines(dataset: Dataset, summary: Summary, shape: Shape | None = None) -> Iterator[str]:
    """What the rows are, and what became of them."""
    if shape is not None:
        yield f"recognised: {shape}"
    yield (
        f"dataset {dataset.name} ({dataset.id}): {summary.num_rows} rows, "
        f"{summary.num_created} created, {summary.num_existing} already there, "
        f"{len(summary.faults)} refused"
    )
    yield f"split: {summary.num_train} train, {summary.num_held_out} held out"
    for source, num_rows in summary.sources.items():
        yield f"  {source}: {num_rows}"


def fault_lines(faults: list[RowFault]) -> Iterator[str]:
    """The first refused rows, one line each."""
    for fault in faults[:NUM_SHOWN_FAULTS]:
        place = f"{fault.origin} line {fault.line}" if fault.origin else f"line {fault.line}"
        at = f" at {fault.pointer}" if fault.pointer else ""
        yield f"refused: {place}{at}: {fault.detail}"
    if len(faults) > NUM_SHOWN_FAULTS:
        yield f"refused: and {len(faults) - NUM_SHOWN_FAULTS} more (all of them with --report FILE)"
