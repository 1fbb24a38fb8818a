"""Replay names what was tampered with: in the decision log, the ledger, the statistics."""

from __future__ import annotations

import json
import math
import struct

import pytest

from etude_proto.v1 import Run
from etude_sampler.embedded import RunningServer
from etude_sampler.service.replay import Span
from support.replaying import change, played, replayed
from support.sampler_app import Api, query


@pytest.fixture
async def settled(valkey_api: Api, database_url: str, valkey: RunningServer) -> tuple[Run, str]:
    """A run whose replay says `same`."""
    run = await played(valkey_api, redis_url=valkey.url)
    assert (await replayed(database_url, run.id, redis_url=valkey.url)).verdict == "same"
    return run, database_url


async def test_a_changed_draw_is_named(settled: tuple[Run, str]) -> None:
    run, url = settled
    ((number, tasks),) = query(
        url,
        "SELECT number, tasks FROM decisions WHERE kind = 'draw' ORDER BY number OFFSET 3 LIMIT 1",
    )
    words = str(tasks).split()
    for at, what in ((0, "place 0"), (1, "entries"), (2, "lanes"), (3, "weights"), (4, "probab")):
        new = list(words)
        new[at] = repr(float(words[4]) * (1 + 2**-50)) if at == 4 else str(int(words[at]) + 1)
        change(url, "UPDATE decisions SET tasks = %s WHERE number = %s", " ".join(new), number)
        report = await replayed(url, run.id)
        assert [(d.number, d.kind) for d in report.differences] == [(number, "draw")]
        assert report.differences[0].what.startswith(what)
        assert report.verdict == "different"
        before = await replayed(url, run.id, span=Span(last=int(str(number)) - 1))
        assert before.differences == []


async def test_a_changed_weight_is_named(settled: tuple[Run, str]) -> None:
    """A task came back with a weight that its statistics do not give."""
    run, url = settled
    ((number, records),) = query(
        url, "SELECT number, records FROM decisions WHERE kind = 'report' ORDER BY number LIMIT 1"
    )
    assert isinstance(records, bytes)
    entry, uniform, first = struct.unpack("<3I", records[:12])
    changed = struct.pack("<3I", entry, uniform, first + 1) + records[12:]
    change(url, "UPDATE decisions SET records = %s WHERE number = %s", changed, number)
    report = await replayed(url, run.id)
    assert (report.differences[0].number, report.verdict) == (number, "different")
    assert report.differences[0].what.startswith("weight in lane format of task")


async def test_a_changed_share_is_named(settled: tuple[Run, str]) -> None:
    run, url = settled
    ((number, records),) = query(
        url, "SELECT number, records FROM decisions WHERE kind = 'announce' ORDER BY number LIMIT 1"
    )
    assert isinstance(records, bytes)
    shares = list(struct.unpack(f"<{len(records) // 8}d", records))
    shares[1], shares[2] = shares[1] + 0.01, shares[2] - 0.01
    packed = struct.pack(f"<{len(shares)}d", *shares)
    change(url, "UPDATE decisions SET records = %s WHERE number = %s", packed, number)
    report = await replayed(url, run.id)
    assert report.differences[0].number == number
    assert "shares" in report.differences[0].what


async def test_missing_numbers_are_gaps(settled: tuple[Run, str]) -> None:
    run, url = settled
    change(url, "DELETE FROM decisions WHERE number IN (7, 8, 12)")
    report = await replayed(url, run.id)
    assert [(gap.first, gap.last) for gap in report.gaps] == [(7, 8), (12, 12)]
    assert (report.epochs[0].num_replayed, report.verdict) == (7, "unexplained")
    change(url, "DELETE FROM decisions WHERE number = 0")
    report = await replayed(url, run.id)
    assert (report.gaps[-1].first, report.gaps[-1].last) == (0, 0)
    assert "begin" in report.gaps[-1].why
    assert report.ledger.explains_statistics


async def test_a_changed_ledger_or_statistics_row_is_named(settled: tuple[Run, str]) -> None:
    """The digest tells statistics that the ledger does not give; so do means, EMAs, mastery."""
    run, url = settled
    one_bit = "UPDATE task_statistics SET ema = %s WHERE ema = %s"
    assert change(url, one_bit, math.nextafter(0.5, 1), 0.5) > 0
    report = await replayed(url, run.id)
    assert not report.ledger.explains_statistics
    assert report.ledger.explains_mastery
    assert report.ledger.digest != report.ledger.stored_digest
    assert "ema" in str(report.ledger.first_fault)
    change(url, one_bit, 0.5, math.nextafter(0.5, 1))
    change(
        url,
        "UPDATE ledger SET prev = new WHERE apply_seq = "
        "(SELECT min(apply_seq) FROM ledger WHERE run_id = %s)",
        run.id,
    )
    report = await replayed(url, run.id)
    assert "prev" in str(report.ledger.first_fault)
    assert report.verdict == "different"


async def test_mastery_as_it_is_now_is_checked_where_it_is_tracked(
    settled: tuple[Run, str],
) -> None:
    """A changed number is named; a run of a release without any agrees without it."""
    run, url = settled
    versions = query(url, "SELECT version, summary::text FROM policy_versions ORDER BY version")
    last, text = versions[-1]
    summary = json.loads(str(text))
    summary["mastery_now"]["format"] += 2**-30
    write = "UPDATE policy_versions SET summary = %s WHERE version = %s"
    change(url, write, json.dumps(summary), last)
    report = await replayed(url, run.id)
    assert report.ledger.first_fault == f"version {last}: mastery_now is not what its groups give"
    for version, stored in versions:
        summary = json.loads(str(stored))
        summary.pop("mastery_now", None)
        change(url, write, json.dumps(summary), version)
    ((state,),) = query(url, "SELECT allocator_state::text FROM runs")
    left = {name: value for name, value in json.loads(str(state)).items() if name != "trend_K"}
    change(url, "UPDATE runs SET allocator_state = %s", json.dumps(left))
    assert (await replayed(url, run.id)).verdict == "same"
