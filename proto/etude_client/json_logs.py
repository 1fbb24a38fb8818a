"""Logs of every service: one JSON object a line on standard error, an event with fields.

Modules log an event's name and give its fields as `extra`, never a sentence. What a piece of work
is about (run, lease, request) is said once, with `about`, and is in every line of that work, also
of the tasks that it starts; `within` carries it into threads.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("etude_log_about", default=_NOTHING)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "color_message", "taskName")
}


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Put fields into every line that is logged within the block; `extra` goes first."""
    token = _ABOUT.set({**_ABOUT.get(), **fields})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def within(call: Callable[P, T]) -> Callable[P, T]:
    """The call as a thread should make it: about the same as here, in the same trace."""
    context = copy_context()

    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.run(call, *args, **kwargs)

    return carried


class JsonFormatter(logging.Formatter):
    """A record as a line: time, level, event, logger; what it is about; its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **_ABOUT.get(),
        }
        line |= {
            key: value
            for key, value in vars(record).items()
            # What begins with an underscore is a library's own: Ray stamps every record.
            if key not in _STANDARD and not key.startswith("_")
        }
        trace = _trace()
        if trace is not None:
            line["trace"] = trace
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def json_handler() -> logging.Handler:
    """Standard error, as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    return handler


def _trace() -> str | None:
    """Id of the trace that is being recorded here."""
    tracing = sys.modules.get("opentelemetry.trace")
    if tracing is None:
        return None
    context = tracing.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
