"""Any source of rows into a real sampler: by both clients, a curriculum, and `etude import`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etude_client import AsyncEtudeClient, Curriculum, EtudeClient
from etude_proto.rows.columns import Columns
from etude_proto.rows.shapes import Shape
from etude_proto.v1 import Dataset, DatasetCreate
from etude_sampler.cli import app
from support.shaped_rows import ROWS, TOOLACE

datasets = pytest.importorskip("datasets")

SUMS = [{"question": f"{n} + 1?", "final": str(n + 1), "origin": "sums"} for n in range(1100)]
COLUMNS: Columns = {"prompt": "question", "answer": "final", "source": "origin"}


def imported(*arguments: str) -> tuple[int, dict[str, object]]:
    """Exit code and report of an import."""
    result = CliRunner().invoke(app, ["import", *arguments, "--json"])
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return result.exit_code, document


async def test_rows_from_everywhere(sampler_url: str, tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(SUMS)
    table.to_parquet(tmp_path / "sums.parquet")
    seen: list[int] = []
    async with AsyncEtudeClient(sampler_url) as client:
        made = await client.create_dataset(DatasetCreate(name="sums"))
        first = await client.import_rows(
            made.id,
            [*SUMS, {**SUMS[0], "question": None}],
            columns=COLUMNS,
            on_progress=lambda summary: seen.append(summary.num_rows),
        )
    assert (first.num_created, first.num_existing, first.sources) == (1100, 0, {"sums": 1100})
    ((line, pointer),) = [(fault.line, fault.pointer) for fault in first.faults]
    assert (line, pointer) == (1100, "/question")
    assert seen == [500, 1000, 1101]
    code, report = imported(
        *("auto", str(tmp_path / "sums.parquet"), "--url", sampler_url, "--held-out", "0"),
        *("--columns", "prompt=question,answer=final,source=origin"),
    )
    assert (code, report["num_created"], report["num_existing"]) == (0, 0, 1100), "the same tasks"
    with EtudeClient(sampler_url) as client:
        again = client.import_rows(made.id, table, columns=COLUMNS)
        assert (again.num_created, again.num_existing) == (0, 1100)
        mixed = client.create_dataset(DatasetCreate(name="mixed"))
        for shape, row in ROWS.items():
            found = client.import_rows(mixed.id, [row])
            assert (found.num_created, found.faults) == (1, []), shape
        assert client.import_rows(mixed.id, [TOOLACE], shape="toolace").num_existing == 1
        with pytest.raises(ValueError, match="no shape is named 'toolbench'"):
            client.import_rows(mixed.id, [TOOLACE], shape="toolbench")
        stored: Dataset = client.get_dataset(mixed.id)
    assert stored.num_tasks == len(ROWS)
    assert stored.sources["toolace"] == 1
    with Curriculum.create(
        "by columns",
        table,
        sampler_url,
        columns={**COLUMNS, "subtasks": ["right"]},
        on_outage="uniform",
    ) as curriculum:
        for item in curriculum.next_batch(4):
            assert item.index is not None
            assert item.messages[0].content == SUMS[item.index]["question"]
            assert item.task.metadata["answer"] == SUMS[item.index]["final"]
            assert (item.subtasks, item.task.source) == (["right"], "sums")
    with pytest.raises(ValueError, match="columns says what the columns of `tasks` are"):
        Curriculum("by columns", sampler_url, columns=COLUMNS)


def test_what_was_recognised_is_said(sampler_url: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([ROWS[Shape.TOOLACE], {**TOOLACE, "system": "No list."}]))
    code, report = imported("auto", str(path), "--url", sampler_url)
    assert (code, report["shape"], report["num_rejected"]) == (1, "toolace", 1)
    code, report = imported("toolace", str(path), "--url", sampler_url)
    assert (code, report["num_existing"], "shape" in report) == (1, 1, False)
    path.write_text(json.dumps(ROWS[Shape.XLAM]))
    code, report = imported("hammer", str(path), "--url", sampler_url, "--mask")
    assert (code, report["sources"]) == (0, {"hammer": 1})
    for command, change, words in (
        ("auto", {"question": "x"}, "no known shape"),
        ("parquet", ROWS[Shape.XLAM], "is not Parquet: try `etude import auto`"),
    ):
        path.write_text(json.dumps(change))
        result = CliRunner().invoke(app, ["import", command, str(path), "--url", sampler_url])
        assert result.exit_code == 2
        assert words in result.stderr
