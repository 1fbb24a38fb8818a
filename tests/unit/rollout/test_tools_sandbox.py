"""Sessions in child processes: apart, confined, and gone without harm when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etude_proto.v1 import BfclConfig, BfclEnvironment, FinishReason, PluginEnvironment
from etude_rollout.tools.base import EnvironmentFailed, ToolCall
from etude_rollout.tools.opening import Environments
from etude_rollout.tools.session import CUT
from support.tool_environments import environments, opening, session
from support.waiting import wait_until

FILES = BfclEnvironment(
    config=BfclConfig(
        classes=["GorillaFileSystem", "MathAPI"],
        initial_config={
            "GorillaFileSystem": {"root": {"top": {"type": "directory", "contents": {}}}}
        },
        withheld={"1": ["touch"]},
    ),
    user_turns=[[]],
)


def sum_of(expression: str) -> ToolCall:
    return ToolCall("calculate", {"expression": expression})


def sessions_of(made: Environments) -> set[int]:
    """Process ids of the sessions that live."""
    nursery = made.sandbox.process_id
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == nursery and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


async def test_refusals_are_observations_and_long_answers_are_cut(made: Environments) -> None:
    async with session(made, opening()) as calculator:
        assert [tool.name for tool in calculator.tools] == ["calculate"]
        assert (await calculator.call(sum_of("6*7"))).text == "42"
        refused = await calculator.call(sum_of("1/0"))
        assert (refused.text, refused.is_error) == ("division by zero", True)
        long = await calculator.call(sum_of("2**1200"))
        assert long.text == f"{2**1200}"[:200] + CUT


async def test_a_session_that_dies_takes_no_other_with_it(made: Environments) -> None:
    async with session(made, opening()) as other:
        before = sessions_of(made)
        async with session(made, opening()) as doomed:
            (pid,) = sessions_of(made) - before
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(EnvironmentFailed, match="has ended") as failed:
                await doomed.call(sum_of("1"))
            assert failed.value.reason is FinishReason.ERROR
        assert (await other.call(sum_of("1"))).text == "1"


async def test_what_does_not_answer_is_given_up(made: Environments) -> None:
    async with session(made, opening()):
        before = sessions_of(made)
        async with session(made, opening(call_timeout_s=0.5)) as stuck:
            (pid,) = sessions_of(made) - before
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(EnvironmentFailed, match="within") as failed:
                await stuck.call(sum_of("1"))
            assert failed.value.reason is FinishReason.TIMEOUT
            os.kill(pid, signal.SIGKILL)


async def test_a_nursery_that_dies_is_started_again() -> None:
    async with environments() as made:
        async with session(made, opening()) as first:
            pid = made.sandbox.process_id
            assert pid is not None
            (child,) = sessions_of(made)
            os.kill(pid, signal.SIGKILL)

            async def are_gone() -> bool:
                return not made.sandbox.is_running and not Path(f"/proc/{child}/root").exists()

            await wait_until(are_gone, what="the nursery and its session have ended")
            with pytest.raises(EnvironmentFailed):
                await first.call(sum_of("1"))
        async with session(made, opening()) as second:
            assert (await second.call(sum_of("2"))).text == "2"


def test_a_call_that_computes_for_ever_is_killed_in_the_act() -> None:
    """Not between two steps of the interpreter: a power of large integers is one step."""
    code = (
        "from etude_rollout.tools.sandbox.confine import alarm\n"
        "alarm(0.2); n = 10 ** 9; 10 ** 10 ** n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM


async def test_sessions_see_neither_files_nor_network_where_the_system_allows(
    made: Environments,
) -> None:
    async with session(made, opening()):
        pid = max(sessions_of(made))
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"ETUDE" not in environ
        if not made.sandbox.facts["files"]:
            assert list(Path(f"/proc/{pid}/root").iterdir()) == []
        if not made.sandbox.facts["network"]:
            ours = Path("/proc/self/ns/net").readlink()
            assert Path(f"/proc/{pid}/ns/net").readlink() != ours
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name in ("Max file size", "Max processes"):
            (line,) = [line for line in limits.splitlines() if line.startswith(name)]
            assert line.removeprefix(name).split()[0] == "0"


async def test_states_are_apart_and_clones_begin_where_they_were_made(made: Environments) -> None:
    mkdir = ToolCall("mkdir", {"dir_name": "a"})
    listing = ToolCall("ls", {})
    async with (
        session(made, opening(FILES)) as one,
        session(made, opening(FILES)) as other,
    ):
        await one.call(mkdir)
        assert '"a"' in (await one.call(listing)).text
        assert '"a"' not in (await other.call(listing)).text
        twin = await one.clone()
        try:
            await one.call(ToolCall("rmdir", {"dir_name": "a"}))
            assert '"a"' in (await twin.call(listing)).text
            assert '"a"' not in (await one.call(listing)).text
        finally:
            await twin.close()


async def test_withheld_tools_are_shown_when_their_turn_comes(made: Environments) -> None:
    async with session(made, opening(FILES)) as files:
        assert "touch" not in {tool.name for tool in files.tools}
        (message,) = await files.next_request(1)
        assert "touch" in {tool.name for tool in files.tools}
        assert "Name: touch" in message.content
        assert "Name: mkdir" not in message.content


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("power", {"base": 10, "exponent": 10**9}),
        ToolCall("logarithm", {"value": 2, "base": 3, "precision": 10**9}),
        ToolCall("__init__", {}),
        ToolCall("_load_scenario", {"scenario": {}}),
        ToolCall("nothing", {}),
    ],
)
async def test_what_would_run_for_ever_or_is_no_tool_is_refused(
    made: Environments, call: ToolCall
) -> None:
    async with session(made, opening(FILES)) as services:
        assert (await services.call(call)).is_error
        assert (await services.call(ToolCall("pwd", {}))).text.startswith("{")


async def test_bad_arguments_are_the_policys_own(made: Environments) -> None:
    async with session(made, opening(FILES)) as services:
        answer = await services.call(ToolCall("mkdir", {"folder": "a"}))
        assert answer.text.startswith("Error during execution:")


async def test_a_kind_that_nobody_brings_is_infrastructure(made: Environments) -> None:
    with pytest.raises(EnvironmentFailed, match="x_nothing"):
        await made.open(opening(PluginEnvironment(kind="x_nothing")), max_chars=10)
