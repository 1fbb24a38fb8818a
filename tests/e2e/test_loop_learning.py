"""The main job, end to end: a tiny policy learns; killing services loses and doubles nothing.

Real sampler, PostgreSQL, Valkey, generation, rewards and GRPO steps; fixed seeds.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy import stats

from etude_client import EtudeClient
from etude_sampler.embedded import RunningServer
from support.collector import Collector, collecting
from support.loop import (
    Loop,
    create_run,
    make_tiny,
    smaller,
    start_sampler,
    start_services,
)
from support.loop_plan import Plan
from support.trace_checks import check_logs, check_traces

STEPS = 28
"""By then the reward is as high as at 40, and the test below as sure: p was 1e-13 and 7e-13 at 28,
3e-10 and 3e-13 at 40 (two runs of each)."""
EDGE = 6
"""Versions at either end whose groups are compared."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def addresses(database_url: str, valkey: RunningServer) -> dict[str, str]:
    return {
        "ETUDE_DATABASE_URL": database_url,
        "ETUDE_REDIS_URL": valkey.url,
        "ETUDE_LOG_LEVEL": "warning",
    }


@pytest.fixture
def loops() -> Iterator[list[Loop]]:
    started: list[Loop] = []
    yield started
    for loop in started:
        loop.stop()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that all processes of the test send their traces to."""
    with collecting() as found:
        monkeypatch.setenv("ETUDE_TRACES_URL", found.url)
        yield found


def dsn_of(url: str) -> str:
    return url.replace("postgresql+asyncpg", "postgresql")


def audit(loop: Loop) -> None:
    """Nothing lost, nothing counted twice."""
    with EtudeClient(loop.url) as client:
        counts = client.get_curriculum(loop.run.id).counts
    assert counts.num_waiting + counts.num_leased + counts.num_parked == counts.num_tasks
    twice = loop.query(
        "SELECT lease_id, ordinal, count(*) FROM ledger WHERE run_id = %s AND verdict = 'applied' "
        "GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert twice == []
    # One statement, so one snapshot: the loop goes on meanwhile.
    ((applied, folded),) = loop.query(
        "SELECT count(*) FILTER (WHERE verdict = 'applied'), "
        "(SELECT sum(n) FROM task_statistics t WHERE t.run_id = min(l.run_id)) "
        "FROM ledger l WHERE run_id = %s"
    )
    assert applied == folded
    versions = loop.query("SELECT version FROM policy_versions WHERE run_id = %s ORDER BY version")
    assert [version for (version,) in versions] == list(range(1, len(versions) + 1))


def test_the_reward_of_the_last_steps_is_above_the_first(
    plan: Plan,
    addresses: dict[str, str],
    loops: list[Loop],
    tmp_path: Path,
    collector: Collector,
) -> None:
    port = free_port()
    sampler = start_sampler("sampler", port=port, servers=addresses, folder=tmp_path)
    url = f"http://127.0.0.1:{port}"
    run = create_run(url, plan)
    loop = Loop(plan, run, url, dsn_of(addresses["ETUDE_DATABASE_URL"]), {"sampler": sampler})
    loops.append(loop)
    start_services(loop, tmp_path, rollout_url=url)
    loop.reach(STEPS, timeout_s=240)
    rewards = loop.query(
        "SELECT policy_version, reward_mean FROM ledger WHERE run_id = %s AND verdict = 'applied' "
        "ORDER BY apply_seq"
    )
    first = [float(str(r)) for version, r in rewards if int(str(version)) < EDGE]
    last = [float(str(r)) for version, r in rewards if int(str(version)) >= STEPS - EDGE]
    found = stats.ttest_ind(last, first, equal_var=False, alternative="greater")
    print(
        f"mean group reward {sum(first) / len(first):.3f} ({len(first)} groups) -> "
        f"{sum(last) / len(last):.3f} ({len(last)} groups), one-sided p {found.pvalue:.2g}"
    )
    assert found.pvalue < 0.01
    with EtudeClient(url) as client:
        history = list(client.iter_history(run.id))
    assert history[-1].mastery["tool_name"] > history[0].mastery["tool_name"]
    assert all(child.num_restarts == 0 for child in loop.children.values())
    audit(loop)
    loop.stop()
    ((num_versions,),) = loop.query("SELECT count(*) FROM policy_versions WHERE run_id = %s")
    check_traces(collector, run.id, num_versions=int(str(num_versions)))
    check_logs(tmp_path, run.id)


def test_the_run_goes_on_whoever_is_killed(
    plan: Plan,
    addresses: dict[str, str],
    loops: list[Loop],
    tmp_path: Path,
) -> None:
    ports = free_port(), free_port()
    replicas = [
        start_sampler(f"sampler-{i}", port=port, servers=addresses, folder=tmp_path)
        for i, port in enumerate(ports)
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    few = smaller(plan, group_size=8, batch_groups=4)
    run = create_run(urls[0], few, lease_ttl_s=5, training_lease_ttl_s=5)
    loop = Loop(few, run, urls[0], dsn_of(addresses["ETUDE_DATABASE_URL"]))
    loop.children = {"sampler": replicas[0], "other": replicas[1]}
    loops.append(loop)
    try:
        start_services(loop, tmp_path, rollout_url=urls[1])
        loop.reach(2, timeout_s=120)
        for name in ("trainer", "rollout", "other"):
            before = loop.version()
            process = loop.children[name].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
            loop.reach(before + 3, timeout_s=120)
            assert loop.children[name].num_restarts == 1
        audit(loop)
    finally:
        loop.stop()
        replicas[1].stop(patience_s=20)
