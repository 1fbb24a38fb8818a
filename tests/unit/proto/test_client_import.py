"""Streaming imports: chunks, compression, and what a lost connection means for an iterator."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from etude_client import AsyncEtudeClient, EtudeClient, Unreachable
from etude_client.call import CHUNK_BYTES, Lines
from etude_proto.v1 import ProblemCode
from support.contract import example
from support.scripted_server import Drop, Reply, ScriptedServer, problem

PATH = "/v1/datasets/ds_1/tasks"
RECEIPT = Reply(200, example("ImportReceipt").encode())
LINES = [f'{{"line": {number}, "text": "{"x" * 90}"}}'.encode() for number in range(5000)]
BODY = b"".join(line + b"\n" for line in LINES)


async def test_lines_are_streamed(server: ScriptedServer, client: AsyncEtudeClient) -> None:
    server.script(PATH, RECEIPT)
    receipt = await client.import_tasks("ds_1", (line for line in LINES))
    assert receipt.num_created == 400
    (seen,) = server.seen
    assert seen.headers["transfer-encoding"] == "chunked"
    assert seen.headers["content-type"] == "application/x-ndjson"
    assert seen.key
    assert seen.body == BODY


def test_lines_are_streamed_by_the_sync_client(
    server: ScriptedServer, sync_client: EtudeClient
) -> None:
    server.script(PATH, RECEIPT)
    sync_client.import_tasks("ds_1", [line + b"\n" for line in LINES])
    assert server.seen[0].body == BODY


async def test_lines_may_be_compressed(server: ScriptedServer) -> None:
    server.script(PATH, RECEIPT)
    async with AsyncEtudeClient(server.url, compress=True) as client:
        await client.import_tasks("ds_1", LINES)
    (seen,) = server.seen
    assert seen.headers["content-encoding"] == "gzip"
    assert seen.text() == BODY
    assert len(seen.body) < len(BODY) / 5


@pytest.mark.parametrize("failure", [Drop(), problem(ProblemCode.REBUILDING, 503)])
async def test_a_list_is_sent_again(
    server: ScriptedServer, client: AsyncEtudeClient, failure: Drop | Reply
) -> None:
    server.script(PATH, failure, RECEIPT)
    await client.import_tasks("ds_1", LINES)
    assert [request.body for request in server.seen] == [BODY, BODY]
    assert len(set(server.keys())) == 1


async def test_an_iterator_is_never_sent_by_half(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    server.script(PATH, Drop(), RECEIPT)
    with pytest.raises(Unreachable):
        await client.import_tasks("ds_1", iter(LINES))
    assert len(server.seen) == 1


async def test_an_iterator_that_was_not_begun_is_sent_later() -> None:
    lines = Lines(iter(LINES), compress=False)
    assert lines.can_send
    assert b"".join(lines.chunks()) == BODY
    assert not lines.can_send


async def test_the_callers_own_fault_is_the_callers(
    server: ScriptedServer, client: AsyncEtudeClient
) -> None:
    def lines() -> Iterator[bytes]:
        yield LINES[0]
        raise OSError("the disk is gone")

    server.script(PATH, RECEIPT)
    with pytest.raises(OSError, match="the disk is gone"):
        await client.import_tasks("ds_1", lines())
    assert server.seen == []


@pytest.mark.parametrize("compress", [False, True])
def test_memory_is_bounded(compress: bool) -> None:
    def many() -> Iterator[bytes]:
        for _ in range(20):
            yield from LINES

    sizes = [len(chunk) for chunk in Lines(many(), compress=compress).chunks()]
    assert max(sizes) <= CHUNK_BYTES + len(LINES[-1]) + 1
    assert len(sizes) > 1


def test_no_lines_are_an_empty_body() -> None:
    assert b"".join(Lines([], compress=False).chunks()) == b""
    assert gzip.decompress(b"".join(Lines([], compress=True).chunks())) == b""
