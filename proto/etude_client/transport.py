"""Sending calls over httpx: the only module that touches the network library.

Imported when a client is made, not when the package is: httpx costs a third of the import time.
Two pools: heartbeats keep connections of their own, so that long polls cannot starve them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator

import httpx

from etude_proto import CONTRACT_VERSION

from .attempts import TransportFailure
from .call import Answer, Call, Lines

CONNECT_TIMEOUT_S = 10.0
_POOL = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=4.0)
_HEARTBEAT_POOL = httpx.Limits(max_connections=4, keepalive_expiry=4.0)
"""Idle connections are dropped before uvicorn does it (5 s), so few calls meet a closed one."""


def _base_headers(api_key: str | None) -> dict[str, str]:
    """Headers of every call; a key that no header can carry is a ValueError without it."""
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("the API key has characters that no key has")
    headers = {"accept": "application/json", "user-agent": f"etude-client/{CONTRACT_VERSION}"}
    return headers if api_key is None else {**headers, "authorization": f"Bearer {api_key}"}


def _timeout(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def _request(
    client: httpx.Client | httpx.AsyncClient,
    call: Call[object],
    timeout_s: float,
    *,
    content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None,
) -> httpx.Request:
    headers = dict(call.headers)
    if (propagation := sys.modules.get("opentelemetry.propagate")) is not None:
        propagation.inject(headers)  # `traceparent` of the caller's span, if there is one
    return client.build_request(
        call.method,
        call.path,
        params=dict(call.params),
        headers=headers,
        content=content,
        timeout=_timeout(timeout_s),
    )


async def _async_chunks(lines: Lines) -> AsyncIterator[bytes]:
    for chunk in lines.chunks():
        yield chunk


def _failure(error: httpx.HTTPError) -> TransportFailure:
    return TransportFailure(f"{type(error).__name__}: {error}".removesuffix(": "))


def check_url(url: str) -> str:
    """The base URL without a trailing slash.

    Raises:
        ValueError: not an http or https URL with a host.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"not an http(s) URL: {url!r}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"not an http(s) URL: {url!r}")
    return url.rstrip("/")


class AsyncTransport:
    """Pools of an `AsyncEtudeClient`. A transport that is given serves both kinds of call."""

    def __init__(
        self, url: str, *, api_key: str | None, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        base_url, headers = check_url(url), _base_headers(api_key)
        verify = base_url.startswith("https")

        def pool(limits: httpx.Limits) -> httpx.AsyncClient:
            carrier = transport or httpx.AsyncHTTPTransport(limits=limits, verify=verify)
            return httpx.AsyncClient(
                base_url=base_url, headers=headers, transport=carrier, trust_env=False
            )

        self._main = pool(_POOL)
        self._heartbeats = self._main if transport is not None else pool(_HEARTBEAT_POOL)

    async def send(self, call: Call[object], timeout_s: float) -> Answer:
        """One attempt.

        Raises:
            TransportFailure: no answer.
        """
        client = self._heartbeats if call.is_heartbeat else self._main
        content = _async_chunks(call.body) if isinstance(call.body, Lines) else call.body
        try:
            response = await client.send(_request(client, call, timeout_s, content=content))
        except httpx.HTTPError as error:
            raise _failure(error) from error
        return Answer(response.status_code, response.headers, response.content)

    async def close(self) -> None:
        """Close all connections."""
        await self._main.aclose()
        await self._heartbeats.aclose()


class SyncTransport:
    """Pools of an `EtudeClient`; safe to use from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None, transport: httpx.BaseTransport | None
    ) -> None:
        base_url, headers = check_url(url), _base_headers(api_key)
        verify = base_url.startswith("https")

        def pool(limits: httpx.Limits) -> httpx.Client:
            carrier = transport or httpx.HTTPTransport(limits=limits, verify=verify)
            return httpx.Client(
                base_url=base_url, headers=headers, transport=carrier, trust_env=False
            )

        self._main = pool(_POOL)
        self._heartbeats = self._main if transport is not None else pool(_HEARTBEAT_POOL)

    def send(self, call: Call[object], timeout_s: float) -> Answer:
        """One attempt.

        Raises:
            TransportFailure: no answer.
        """
        client = self._heartbeats if call.is_heartbeat else self._main
        content = call.body.chunks() if isinstance(call.body, Lines) else call.body
        try:
            response = client.send(_request(client, call, timeout_s, content=content))
        except httpx.HTTPError as error:
            raise _failure(error) from error
        return Answer(response.status_code, response.headers, response.content)

    def close(self) -> None:
        """Close all connections."""
        self._main.close()
        self._heartbeats.close()
