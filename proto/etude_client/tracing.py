"""Traces, optional and off by default: what every service does under a policy version, in one.

The id of that trace follows from run and version, so sampler, rollout and trainer put their spans
into the same one and nobody has to remember it (docs/adr/0036-traces.md). HTTP calls carry it as
W3C `traceparent` (`transport.py`). Without `sending` nothing is recorded. Imported by the services;
the clients work without OpenTelemetry.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec

import opentelemetry.propagate  # noqa: F401 - where it is loaded, `transport.py` carries traces
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, TraceFlags

_FORCED: ContextVar[SpanContext | None] = ContextVar("etude_forced_span", default=None)
Attribute = str | int | float | bool


class TracingError(Exception):
    """Traces are asked for and cannot be sent; the message is one line."""


def version_context(run_id: str, version: int) -> SpanContext:
    """The root of a version's trace: the first 16 and the next 8 bytes of a digest."""
    digest = hashlib.sha256(f"etude/{run_id}/{version}".encode()).digest()
    return SpanContext(
        trace_id=int.from_bytes(digest[:16], "big") or 1,
        span_id=int.from_bytes(digest[16:24], "big") or 1,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _under(run_id: str, version: int) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(version_context(run_id, version)), Context())


@contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[Span]:
    """A span below the current one; keywords become attributes `etude.*`."""
    if _is_off():
        yield trace.INVALID_SPAN
        return
    with _tracer().start_as_current_span(name, attributes=_named(attributes)) as made:
        yield made


@contextmanager
def version_span(
    name: str, run_id: str, version: int, *, links: Iterable[int] = (), **attributes: Attribute
) -> Iterator[Span]:
    """A span in the trace of a run's policy version.

    Args:
        name: what is done.
        run_id: the run.
        version: the policy version under which it is done.
        links: other versions that it works on the fruits of.
        attributes: more, each as `etude.*`.
    """
    if _is_off():
        yield trace.INVALID_SPAN
        return
    about = {"run": run_id, "policy_version": version, **attributes}
    others = [Link(version_context(run_id, one)) for one in sorted(set(links) - {version})]
    with _tracer().start_as_current_span(
        name, context=_under(run_id, version), attributes=_named(about), links=others
    ) as made:
        yield made


def end_version(run_id: str, version: int, *, seconds: float, **attributes: Attribute) -> None:
    """The version is over, after so many seconds: its root, which the trainer alone sends."""
    if _is_off():
        return
    ended_ns = time.time_ns()
    token = _FORCED.set(version_context(run_id, version))
    try:
        root = _tracer().start_span(
            "policy version",
            context=Context(),
            attributes=_named({"run": run_id, "policy_version": version, **attributes}),
            start_time=ended_ns - round(seconds * 1e9),
        )
    finally:
        _FORCED.reset(token)
    root.end(ended_ns)


def check() -> None:
    """Raise `TracingError` unless spans could be sent: the extra `traces` is installed."""
    for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise TracingError(
                f"ETUDE_TRACES_URL is set and {name} is not installed: "
                "pip install 'etude-proto[traces]'"
            )


def is_probe(scope: Mapping[str, object]) -> bool:
    """Whether a request (ASGI) is one of those that come every few seconds and are not traced."""
    return scope.get("path") in ("/livez", "/readyz", "/metrics")


@contextmanager
def sending(service: str, url: str | None, *, ratio: float = 1.0) -> Iterator[None]:
    """Send this process's spans to a collector, by OTLP over HTTP, until the block ends.

    Args:
        service: name of the service in traces.
        url: of the collector, `/v1/traces` is added; null: nothing is sent or recorded.
        ratio: share of traces that are kept; the same for all services, for the id decides.

    Raises:
        TracingError: as `check`.
    """
    if url is None:
        yield
        return
    check()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    class Ids(RandomIdGenerator):
        """Random, but for the roots of versions."""

        def generate_trace_id(self) -> int:
            forced = _FORCED.get()
            return super().generate_trace_id() if forced is None else forced.trace_id

        def generate_span_id(self) -> int:
            forced = _FORCED.get()
            return super().generate_span_id() if forced is None else forced.span_id

    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=TraceIdRatioBased(ratio),
        id_generator=Ids(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces"))
    )
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def _is_off() -> bool:
    """Whether nobody takes spans; someone else's provider in the process would."""
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@cache
def _tracer() -> trace.Tracer:
    return trace.get_tracer("etude")


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {f"etude.{name}": value for name, value in attributes.items()}
