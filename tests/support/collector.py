"""A collector of traces: OTLP over HTTP on a free port, spans kept as they came."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Told:
    """A span that a service sent."""

    service: str
    name: str
    trace: bytes
    span: bytes
    parent: bytes
    links: frozenset[bytes]
    """Traces that it is linked to."""
    facts: dict[str, str | int | float | bool]


@dataclass(slots=True)
class Collector:
    """What was received so far."""

    url: str
    spans: list[Told] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> None:
        """Keep the spans of an export."""
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for resource in request.resource_spans:
                facts = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for one in scope.spans:
                        self.spans.append(
                            Told(
                                service=facts["service.name"],
                                name=one.name,
                                trace=one.trace_id,
                                span=one.span_id,
                                parent=one.parent_span_id,
                                links=frozenset(link.trace_id for link in one.links),
                                facts={
                                    fact.key: getattr(fact.value, fact.value.WhichOneof("value"))
                                    for fact in one.attributes
                                },
                            )
                        )

    def named(self, name: str) -> list[Told]:
        """Spans of a name."""
        with self.lock:
            return [one for one in self.spans if one.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, up until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        """The one route of a collector that our services use."""

        def do_POST(self) -> None:
            """Take an export."""
            assert self.path == "/v1/traces", self.path
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
