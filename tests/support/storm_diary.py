"""What the clients of a storm saw: every request that matters, its answer, and what must not be.

Written by `storm_clients` and `storm_trainers`, read by the gremlin (who repeats old requests) and
by the auditor. An answer is final when it is a success or a refusal that no repetition changes.
"""

from __future__ import annotations

import asyncio
import random
import sys
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx

from etude_proto.v1 import Lease, Problem

from .waiting import pass_time

Kind = Literal["report", "ack", "announce", "lease", "take", "other"]
_ATTEMPT_S = 6.0
_PAUSE_S = 0.1
_TRIES = 10
"""Of heartbeats and releases, which a worker may give up: the lease ends by itself."""


@dataclass(slots=True)
class Sent:
    """A request and its final answer."""

    kind: Kind
    path: str
    key: str
    body: bytes
    content_type: str
    run_id: str
    status: int = 0
    """0 as long as there is no final answer."""
    content: bytes = b""
    code: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was told that it is done."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class Diary:
    """Everything that the clients of a storm write down."""

    sent: list[Sent] = field(default_factory=list)
    """Reports, acks and announcements, in order of sending."""
    leases: dict[str, tuple[Lease, tuple[int, ...]]] = field(default_factory=dict)
    """Acknowledged prompt leases and their tasks' ordinals."""
    taken: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups (`lease:ordinal, replay N`) of acknowledged training batches."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each group's body as it was sent."""
    wrong: list[str] = field(default_factory=list)
    """Answers that must never be given."""
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, text: str) -> None:
        """Note what must not happen."""
        self.wrong.append(text)

    def answered(self) -> list[Sent]:
        """What has a final answer."""
        return [one for one in self.sent if one.status]


def code_of(response: httpx.Response) -> str:
    """The problem code of a refusal."""
    if response.status_code < 400:
        return ""
    try:
        return str(Problem.model_validate_json(response.content).code.value)
    except ValueError:
        return f"http_{response.status_code}"


@dataclass(slots=True)
class Caller:
    """Sends requests to any replica until one gives a final answer."""

    urls: Sequence[str]
    diary: Diary
    rng: random.Random
    http: httpx.AsyncClient

    async def send(self, sent: Sent, *, expected: Sequence[str] = ()) -> Sent:
        """Send until there is a final answer; refusals that nobody expects are noted.

        Heartbeats and releases may end without.
        """
        tries = _TRIES if sent.kind == "other" else sys.maxsize
        while not sent.status and tries:
            tries -= 1
            response = await self.once(sent)
            if response is not None:
                sent.code = code_of(response)
                sent.content, sent.status = response.content, response.status_code
        if sent.code and sent.code not in expected:
            text = sent.content[:300].decode("utf-8", "replace")
            self.diary.fault(f"{sent.kind} {sent.path} key {sent.key}: {sent.status} {text}")
        return sent

    async def once(self, sent: Sent) -> httpx.Response | None:
        """One attempt at a random replica; None, after a pause, unless the answer is final."""
        headers = {"Idempotency-Key": sent.key, "Content-Type": sent.content_type}
        url = self.rng.choice(self.urls) + sent.path
        try:
            response = await asyncio.wait_for(
                self.http.post(url, content=sent.body, headers=headers), 4 * _ATTEMPT_S
            )
        except (httpx.HTTPError, TimeoutError) as error:
            self.diary.counts[f"no answer: {type(error).__name__}"] += 1
            await pass_time(self.rng.uniform(0.5, 1.5) * _PAUSE_S)
            return None
        self.diary.counts[f"status {response.status_code}"] += 1
        if response.status_code == 503:
            if "retry-after" not in response.headers:
                self.diary.fault(f"503 without Retry-After: {sent.kind} {sent.path}")
            self.diary.counts[f"503 {code_of(response)}"] += 1
            await pass_time(self.rng.uniform(0.5, 3.0) * _PAUSE_S)
            return None
        if response.status_code == 409 and code_of(response) == "idempotency_in_progress":
            await pass_time(_PAUSE_S)
            return None
        return response


def new_key() -> str:
    """A fresh idempotency key."""
    return uuid.uuid4().hex


def http_client() -> httpx.AsyncClient:
    """The pool of one scripted client."""
    limits = httpx.Limits(max_connections=8, keepalive_expiry=4.0)
    return httpx.AsyncClient(timeout=httpx.Timeout(_ATTEMPT_S), limits=limits)
