"""Bodies: bounded, decompressed (gzip, zstd), hashed and validated from the raw bytes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import zstandard
from fastapi import Request
from pydantic import BaseModel, ValidationError

from ..errors import (
    BadRequest,
    BodyTooLarge,
    IdempotencyKeyMissing,
    PayloadInvalid,
    UnsupportedMediaType,
)
from .problems import invalid
from .weights import check_weights_uri

ModelT = TypeVar("ModelT", bound=BaseModel)
_MAX_KEY = 255


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes) -> bytes: ...


def _decompressor(encoding: str) -> tuple[_Decompressor, int] | None:
    """What unpacks an encoding, and the bytes to give it at a time: at most 8 MiB come out."""
    if encoding in ("", "identity"):
        return None
    if encoding == "gzip":
        return zlib.decompressobj(16 + zlib.MAX_WBITS), 4096
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj(), 256
    raise UnsupportedMediaType(f"Content-Encoding {encoding!r}; gzip and zstd are understood")


async def stream(request: Request, *, max_bytes: int | None) -> AsyncIterator[bytes]:
    """The body's decompressed chunks, each of at most a few MiB.

    Raises:
        BodyTooLarge: more than `max_bytes` after decompression.
        UnsupportedMediaType: an unknown encoding.
        BadRequest: the compressed data is broken.
    """
    unpack = _decompressor(request.headers.get("content-encoding", "").strip().lower())
    total = 0
    async for chunk in request.stream():
        for data in (chunk,) if unpack is None else _inflate(*unpack, chunk):
            total += len(data)
            if max_bytes is not None and total > max_bytes:
                raise BodyTooLarge(f"the body is over {max_bytes} bytes")
            if data:
                yield data
    if unpack is not None and not unpack[0].eof:
        raise BadRequest("the compressed body ends too early")


def _inflate(unpack: _Decompressor, step: int, chunk: bytes) -> Iterator[bytes]:
    """Decompress in small steps, so that a bomb is noticed before it is unpacked."""
    try:
        for first in range(0, len(chunk), step):
            if unpack.eof:
                raise BadRequest("there is more than one compressed stream in the body")
            yield unpack.decompress(chunk[first : first + step])
            if unpack.unused_data:
                raise BadRequest("there is more than one compressed stream in the body")
    except (zlib.error, zstandard.ZstdError) as error:
        raise BadRequest(f"the compressed body is broken: {error}") from error


async def read(request: Request, *, max_bytes: int) -> bytes:
    """The whole body, decompressed."""
    return b"".join([chunk async for chunk in stream(request, max_bytes=max_bytes)])


async def lines(request: Request, *, max_line_bytes: int) -> AsyncIterator[bytes]:
    """The body's lines as they arrive."""
    rest = b""
    async for chunk in stream(request, max_bytes=None):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in (*whole, rest):
            if len(line) > max_line_bytes:
                raise BodyTooLarge(f"a line is over {max_line_bytes} bytes")
        for line in whole:
            yield line
    if rest:
        yield rest


class HashedLines:
    """Lines as they are read, and in the end the hash that a repeated key must agree on."""

    def __init__(self, request: Request, found: AsyncIterator[bytes]) -> None:
        self._found = found
        self._digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for line in self._found:
            self._digest.update(line)
            self._digest.update(b"\n")
            yield line

    async def read_out(self) -> None:
        """Read all lines for their hash alone."""
        async for _ in self:
            pass

    @property
    def hash(self) -> str:
        """Of method, path and the lines read so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Call(Generic[ModelT]):
    """A mutating call: its validated body, idempotency key and the hash that must match it."""

    body: ModelT
    key: str
    body_hash: str


def idempotency_key(request: Request) -> str:
    """The `Idempotency-Key` header.

    Raises:
        IdempotencyKeyMissing: absent or empty.
        BadRequest: longer than 255 characters, or not visible ASCII.
    """
    key = request.headers.get("idempotency-key", "")
    if not key:
        raise IdempotencyKeyMissing("send a unique Idempotency-Key with every POST and PATCH")
    if len(key) > _MAX_KEY or not all("!" <= c <= "~" for c in key):
        raise BadRequest("Idempotency-Key: at most 255 visible ASCII characters")
    return key


def media_type_of(request: Request) -> str:
    """The body's type without parameters, in lower case; empty if the request does not say."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def hash_body(request: Request, data: bytes) -> str:
    """What a repeated key must agree on: method, path and body."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(data)
    return digest.hexdigest()


def validate(model: type[ModelT], data: bytes) -> ModelT:
    """A model from JSON bytes, types as they are. Raises `PayloadInvalid` naming the fields."""
    try:
        return model.model_validate_json(data or b"{}", strict=True)
    except ValidationError as error:
        raise invalid(error) from error
    except RecursionError as error:
        raise PayloadInvalid.at("", "the JSON is nested too deeply") from error


def json_call(model: type[ModelT]) -> Callable[[Request], Awaitable[Call[ModelT]]]:
    """A FastAPI dependency: the call of a route whose body is `model` as JSON."""

    async def dependency(request: Request) -> Call[ModelT]:
        key = idempotency_key(request)
        media_type = media_type_of(request)
        if media_type not in ("application/json", ""):
            raise UnsupportedMediaType(f"{media_type!r}; this call takes application/json")
        data = await read(request, max_bytes=request.app.state.settings.max_body_bytes)
        body = validate(model, data)
        if (uri := getattr(body, "weights_uri", None)) is not None:
            check_weights_uri(uri, request.app.state.settings.weights_root_list)
        return Call(body, key, hash_body(request, data))

    return dependency
