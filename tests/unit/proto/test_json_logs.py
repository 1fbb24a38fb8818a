"""A line of the log: an object with the event, what the work is about, and what was given."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from etude_client.json_logs import JsonFormatter, about, within
from etude_client.tracing import version_context


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of its own that writes lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("etude_test_json_logs")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(text) for text in stream.getvalue().splitlines()]


def test_a_line_names_event_fields_and_what_it_is_about(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    with about(run="run_1"), about(lease="lease_1"):
        logger.warning("report.lost", extra={"task": "task_1", "detail": ValueError("why")})
    logger.error("report.refused")
    first, second = lines(stream)
    assert {"run": "run_1", "lease": "lease_1", "task": "task_1"}.items() <= first.items()
    assert (first["event"], first["level"], first["detail"]) == ("report.lost", "warning", "why")
    assert str(first["at"]).endswith("+00:00")
    assert set(second) == {"at", "level", "event", "logger"}


def test_own_fields_go_before_what_the_work_is_about(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    with about(lease="outer"):
        logger.warning("lease.released", extra={"lease": "another"})
    assert lines(stream)[0]["lease"] == "another"


def test_tasks_and_threads_of_a_piece_of_work_are_about_the_same(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log

    async def work() -> None:
        with about(lease="lease_1"):
            task = asyncio.create_task(asyncio.to_thread(logger.warning, "from.a.task"))
        await task

    asyncio.run(work())
    with about(lease="lease_2"):
        carried = within(logger.warning)
    for call in (carried, logger.warning):
        thread = threading.Thread(target=call, args=("from.a.thread",))
        thread.start()
        thread.join()
    assert [line.get("lease") for line in lines(stream)] == ["lease_1", "lease_2", None]


def test_a_line_names_its_trace(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    context = version_context("run_1", 3)
    with trace.use_span(NonRecordingSpan(context)):
        logger.warning("report.lost")
    assert lines(stream)[0]["trace"] == f"{context.trace_id:032x}"
