"""One call as a value: what to send and how to read the answer.

`operations.py` builds calls, `attempts.py` decides about retries, `transport.py` sends them.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from etude_proto.cargo import CargoError, unpack_frame
from etude_proto.v1 import TrainingBatch

from .errors import AnswerInvalid

AnswerT = TypeVar("AnswerT")
AnswerCo = TypeVar("AnswerCo", covariant=True)
ModelT = TypeVar("ModelT", bound=BaseModel)

CHUNK_BYTES = 64 << 10
"""Size of a streamed chunk, before compression."""
COMPRESS_FROM_BYTES = 1 << 10
"""Smaller bodies are not worth compressing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class Lines:
    """NDJSON lines as a streamed body, joined into chunks and gzipped if asked.

    A list or another iterable that starts anew can be sent again after a lost connection; an
    iterator is used up by its first chunk.
    """

    def __init__(self, lines: Iterable[bytes], *, compress: bool) -> None:
        self._lines = lines
        self._compress = compress
        self._replayable = not isinstance(lines, Iterator)
        self._started = False

    @property
    def can_send(self) -> bool:
        """Whether (another) attempt would send every line."""
        return self._replayable or not self._started

    def chunks(self) -> Iterator[bytes]:
        """The body from its first byte."""
        self._started = True
        packer = zlib.compressobj(6, zlib.DEFLATED, 31) if self._compress else None
        for chunk in self._joined():
            packed = chunk if packer is None else packer.compress(chunk)
            if packed:
                yield packed
        if packer is not None:
            yield packer.flush()

    def _joined(self) -> Iterator[bytes]:
        buffer = bytearray()
        for line in self._lines:
            buffer += line
            if not line.endswith(b"\n"):
                buffer += b"\n"
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
        if buffer:
            yield bytes(buffer)


@dataclass(frozen=True, slots=True)
class Call(Generic[AnswerCo]):
    """A request with its decoder. Sent again unchanged, key included, on every attempt."""

    method: str
    path: str
    decode: Callable[[Answer], AnswerCo]
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Lines | None = None
    wait_s: float = 0.0
    """How long the server may hold the call (long poll); added to the time-out."""
    is_heartbeat: bool = False
    """Sent over the connections kept apart for heartbeats, so that long polls cannot starve it."""
    is_probe: bool = False
    """A health probe: answered by any service state, never retried."""


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """A training batch with its groups' safetensors bodies, in manifest order."""

    manifest: TrainingBatch
    bodies: list[bytes]


def is_answer(call: Call[object], answer: Answer) -> bool:
    """Whether the call is done: a success, or for a probe also the report of ill health."""
    if 200 <= answer.status < 300:
        return True
    content_type = answer.headers.get("content-type", "")
    return call.is_probe and answer.status == 503 and content_type.startswith("application/json")


def json_decoder(model: type[ModelT]) -> Callable[[Answer], ModelT]:
    """A decoder of JSON answers.

    The decoder raises `AnswerInvalid` when the body is not a `model`.
    """

    def decode(answer: Answer) -> ModelT:
        try:
            return model.model_validate_json(answer.body, extra="ignore")
        except ValidationError as error:
            raise AnswerInvalid(f"not a {model.__name__}: {error}") from error

    return decode


def decode_frame(answer: Answer) -> TrainingFrame:
    """Decoder of training batches; checks every body's length and digest.

    Raises:
        AnswerInvalid: not a frame, or a body that differs from its digest.
    """
    try:
        manifest, views = unpack_frame(answer.body)
        bodies = [bytes(view) for view in views]
    except (CargoError, ValidationError) as error:
        raise AnswerInvalid(f"not a training batch: {error}") from error
    for ref, body in zip(manifest.groups, bodies, strict=True):
        if hashlib.sha256(body).hexdigest() != ref.sha256:
            raise AnswerInvalid(f"the body of group {ref.task_id} differs from its digest")
    return TrainingFrame(manifest, bodies)


def compressed(call: Call[AnswerT]) -> Call[AnswerT]:
    """The call with its JSON body gzipped, if that pays; the same bytes on every attempt."""
    body = call.body
    if not isinstance(body, bytes) or len(body) < COMPRESS_FROM_BYTES:
        return call
    if call.headers.get("content-type") != "application/json":
        return call
    return replace(
        call,
        headers={**call.headers, "content-encoding": "gzip"},
        body=gzip.compress(body, compresslevel=3, mtime=0),
    )
