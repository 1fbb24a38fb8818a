"""Traces: ids that run and version determine, carried over HTTP, nothing without a collector."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from etude_client import AsyncEtudeClient, EtudeClient, tracing
from support.contract import example
from support.scripted_server import Reply, ScriptedServer

RUN = "/v1/runs/run_1"
ANSWER = Reply(200, example("Run").encode())


def test_run_and_version_determine_the_trace() -> None:
    one = tracing.version_context("run_1", 3)
    assert one == tracing.version_context("run_1", 3)
    others = [tracing.version_context("run_1", 4), tracing.version_context("run_2", 3)]
    assert len({one.trace_id, *(other.trace_id for other in others)}) == 3
    assert one.is_valid
    assert one.trace_flags.sampled


async def test_both_clients_carry_the_trace_of_their_caller(
    server: ScriptedServer, client: AsyncEtudeClient, sync_client: EtudeClient
) -> None:
    server.script(RUN, ANSWER, ANSWER, ANSWER)
    context = tracing.version_context("run_1", 3)
    with trace.use_span(NonRecordingSpan(context)):
        await client.get_run("run_1")
        sync_client.get_run("run_1")
    await client.get_run("run_1")
    wanted = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert [seen.headers.get("traceparent") for seen in server.seen] == [wanted, wanted, None]


def test_without_a_collector_nothing_is_recorded() -> None:
    with (
        tracing.sending("etude-test", None),
        tracing.version_span("step", "run_1", 3, lease="tb_1") as outer,
        tracing.span("ack") as inner,
    ):
        assert not outer.is_recording()
        assert not inner.is_recording()
        assert not trace.get_current_span().get_span_context().is_valid


def test_a_missing_extra_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    sending = tracing.sending("etude-test", "http://127.0.0.1:4318")
    with pytest.raises(tracing.TracingError, match=r"pip install 'etude-proto\[traces\]'"), sending:
        raise AssertionError("it began")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_are_not_traced(path: str) -> None:
    assert tracing.is_probe({"path": path})
    assert not tracing.is_probe({"path": "/v1/runs"})
