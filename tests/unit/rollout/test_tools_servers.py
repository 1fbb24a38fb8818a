"""Tools behind real HTTP and MCP servers: answers, refusals, failures, silence, plug-ins."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from etude_proto.v1 import (
    FinishReason,
    HttpEnvironment,
    McpEnvironment,
    PluginEnvironment,
    ServerConfig,
    Tool,
)
from etude_rollout.tools.base import EnvironmentFailed, ToolCall
from etude_rollout.tools.opening import GROUP
from etude_rollout.tools.servers import HttpServer, McpServer, read_servers
from etude_rollout.tools.session import Session
from support.http_tools import http_tools, mcp_over_http
from support.tool_environments import environments, opening, session
from support.tree import ROOT

HTTP = HttpEnvironment(config=ServerConfig(server="web"))
MCP = McpEnvironment(config=ServerConfig(server="counter"))
NAMES = ("double", "refuse", "told", "wait", "meet", "nonsense", "boom", "key")
TOOLS = [Tool(name=name, parameters={"type": "object"}) for name in NAMES]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http_tools() as started:
        yield started


@pytest.fixture
async def web(url: str) -> AsyncIterator[Session]:
    """A session with the HTTP server."""
    server = HttpServer.model_validate(
        {"kind": "http", "url": url, "headers": {"Authorization": "Bearer s3cret"}}
    )
    async with (
        environments({"web": server}) as made,
        session(made, opening(HTTP, tools=TOOLS, call_timeout_s=20.0)) as opened,
    ):
        yield opened


@pytest.mark.parametrize(
    ("call", "text", "is_error"),
    [
        (ToolCall("double", {"x": 4}), '{"value": 8, "seed": 7}', False),
        (ToolCall("refuse", {"x": 3}), "x must be even", True),
        (ToolCall("told", {}), "no such city", True),
        (ToolCall("nothing", {}), "there is no tool 'nothing'", True),
        (ToolCall("key", {}), "Bearer s3cret", False),
    ],
)
async def test_http_answers_and_refusals(
    web: Session, call: ToolCall, text: str, *, is_error: bool
) -> None:
    answer = await web.call(call)
    assert (answer.text, answer.is_error) == (text, is_error)


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("boom", FinishReason.ERROR, "answered 500"),
        ("nonsense", FinishReason.ERROR, "neither result nor error"),
    ],
)
async def test_http_failures_are_infrastructure(
    web: Session, name: str, reason: FinishReason, detail: str
) -> None:
    with pytest.raises(EnvironmentFailed, match=detail) as failed:
        await web.call(ToolCall(name, {}))
    assert failed.value.reason is reason


async def test_silence_is_infrastructure_too(url: str) -> None:
    server = HttpServer(kind="http", url=url)
    async with (
        environments({"web": server}) as made,
        session(made, opening(HTTP, tools=TOOLS, call_timeout_s=0.2)) as opened,
    ):
        with pytest.raises(EnvironmentFailed, match="did not answer within") as failed:
            await opened.call(ToolCall("wait", {}))
        assert failed.value.reason is FinishReason.TIMEOUT


async def test_a_server_that_is_not_there_is_infrastructure() -> None:
    server = HttpServer(kind="http", url="http://127.0.0.1:9/")
    async with environments({"web": server}) as made:
        async with session(made, opening(HTTP, tools=TOOLS)) as opened:
            with pytest.raises(EnvironmentFailed, match="http://") as failed:
                await opened.call(ToolCall("double", {"x": 1}))
            assert failed.value.reason is FinishReason.ERROR
        wrong = HttpEnvironment(config=ServerConfig(server="elsewhere"))
        with pytest.raises(EnvironmentFailed, match="knows no HTTP tool server"):
            await made.open(opening(wrong), max_chars=10)


async def test_calls_of_one_turn_run_together_only_if_asked(url: str) -> None:
    """Three calls that wait for each other: one after another none of them would ever return."""
    server = HttpServer(kind="http", url=url)
    async with (
        environments({"web": server}) as made,
        session(made, opening(HTTP, tools=TOOLS, call_timeout_s=20.0)) as opened,
    ):
        calls = [ToolCall("meet", {})] * 3
        answers = await opened.call_all(calls, at_once=3)
        assert [answer.text for answer in answers] == ["met"] * 3


def mcp_table() -> dict[str, HttpServer | McpServer]:
    command = [sys.executable, "-m", "support.http_tools"]
    path = str(ROOT / "tests")
    return {
        "counter": McpServer.model_validate(
            {"kind": "mcp", "command": command, "env": {"PYTHONPATH": path, "GREETING": "hi"}}
        )
    }


async def test_mcp_over_stdio() -> None:
    """A server and a counter of its own for every session; a clone counts from where it was."""
    async with (
        environments(mcp_table()) as made,
        session(made, opening(MCP, call_timeout_s=20.0)) as one,
    ):
        assert {tool.name for tool in one.tools} == {"add", "fail", "wait", "end", "environment"}
        (add,) = [tool for tool in one.tools if tool.name == "add"]
        assert add.parameters["required"] == ["x"]
        assert (await one.call(ToolCall("add", {"x": 2}))).text == "2"
        twin = await one.clone()
        try:
            assert (await one.call(ToolCall("add", {"x": 1}))).text == "3"
            assert (await twin.call(ToolCall("add", {"x": 5}))).text == "7"
        finally:
            await twin.close()
        assert (await one.call(ToolCall("fail", {}))).is_error
        assert (await one.call(ToolCall("add", {"x": "much"}))).is_error
        variables = (await one.call(ToolCall("environment", {}))).text.split()
        assert "GREETING" in variables
        assert not [name for name in variables if name.startswith("ETUDE")]
        with pytest.raises(EnvironmentFailed) as failed:
            await one.call(ToolCall("end", {}))
        assert failed.value.reason is FinishReason.ERROR
        with pytest.raises(EnvironmentFailed):
            await one.call(ToolCall("add", {"x": 1}))


async def test_mcp_over_http() -> None:
    async with mcp_over_http() as url:
        table: dict[str, HttpServer | McpServer] = {"counter": McpServer(kind="mcp", url=url)}
        async with environments(table) as made:
            async with session(made, opening(MCP, call_timeout_s=10.0)) as opened:
                assert (await opened.call(ToolCall("add", {"x": 4}))).text == "4"
                assert (await opened.call(ToolCall("fail", {}))).is_error
            async with session(made, opening(MCP, call_timeout_s=0.3)) as hasty:
                with pytest.raises(EnvironmentFailed) as failed:
                    await hasty.call(ToolCall("wait", {}))
                assert failed.value.reason is FinishReason.TIMEOUT


async def test_an_mcp_server_that_does_not_start_is_infrastructure() -> None:
    table: dict[str, HttpServer | McpServer] = {
        "counter": McpServer(kind="mcp", command=[sys.executable, "-c", "raise SystemExit(3)"])
    }
    async with environments(table) as made:
        with pytest.raises(EnvironmentFailed, match="no MCP session"):
            await made.open(opening(MCP, call_timeout_s=20.0), max_chars=10)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[web]\nkind = 'http'", "web.http.url: Field required"),
        ("[web]\nkind = 'ftp'\nurl = 'http://x'", "web"),
        ("[web]\nkind = 'mcp'", "either a command or a url"),
        ("[Web]\nkind = 'mcp'\nurl = 'http://x'", "Web"),
        ("[web]\nkind = 'http'\nurl = 'http://x'\nport = 1", "web.http.port"),
        ("[web", "bad.toml"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=fault.replace(".", r"\.")) as refused:
        read_servers(path)
    assert "\n" not in str(refused.value).partition(" (at ")[0]
    with pytest.raises(ValueError, match="No such file"):
        read_servers(tmp_path / "none.toml")


PLUGIN = """
from etude_rollout.tools.base import ToolError


class Parrot:
    runs_parallel = True
    tools = ()

    async def call(self, call):
        if call.name == "bug":
            raise KeyError("a bug in the plug-in")
        if call.name != "say":
            raise ToolError("I only say things")
        return call.parameters["text"]

    async def next_request(self, number):
        return []

    async def end_request(self):
        pass

    async def judge(self):
        return {}

    async def close(self):
        pass


class Opener:
    async def open(self, opening):
        return Parrot()

    async def close(self):
        pass
"""


async def test_a_plug_in_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed distribution with a module; whatever it raises, the worker outlives it."""
    (tmp_path / "etude_parrot.py").write_text(PLUGIN)
    facts = tmp_path / "etude_parrot-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: etude-parrot\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[{GROUP}]\nx_parrot = etude_parrot:Opener\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = PluginEnvironment(kind="x_parrot", config={"colour": "green"})
    async with environments() as made, session(made, opening(spec)) as parrot:
        assert (await parrot.call(ToolCall("say", {"text": "hello"}))).text == "hello"
        assert (await parrot.call(ToolCall("sing", {}))).is_error
        with pytest.raises(EnvironmentFailed, match="KeyError"):
            await parrot.call(ToolCall("bug", {}))
