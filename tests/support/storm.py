"""A storm: real servers, replicas behind faulty links, scripted clients, a gremlin, an audit.

Used by `tests/chaos/test_storm.py` (short) and `tests/chaos/long_storm.py` (long, by hand).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import httpx

from etude_client import AsyncEtudeClient
from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    Part,
    Receipt,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
)
from etude_sampler.store.postgres.migrate import upgrade

from .sampler_app_replica import free_port
from .storm_audit import Findings, audit
from .storm_clients import GROUP_SIZE, Worker
from .storm_diary import Caller, Diary, Sent, http_client
from .storm_gremlin import Fault, Gremlin
from .storm_proxy import Link, link
from .storm_servers import Replica, Server, Valkey
from .storm_trainers import Announcer, Trainer
from .waiting import wait_until
from .workload import lines, task

LEASE_TTL_S = 2.0
_TIMEOUT_S = 2.0
_ANSWERS_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    num_replicas: int = 2
    num_workers: int = 20
    num_trainers: int = 2
    num_tasks: int = 80


@dataclass(slots=True)
class Storm:
    """Everything that runs."""

    postgres: Server
    valkey: Valkey
    replicas: list[Replica]
    links: list[Link]
    urls: list[str]
    """Of the replicas, through the links."""
    direct: list[str]
    runs: list[Run] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What a storm came to."""

    seed: int
    seconds: float
    struck: Counter[str]
    answers: Counter[str]
    findings: Findings

    @property
    def num_wrong(self) -> int:
        """Findings of every kind."""
        return sum(map(len, self.findings.wrong.values()))


@asynccontextmanager
async def raised(size: Size, folder: Path) -> AsyncIterator[Storm]:
    """Servers, links and replicas, up and with two runs; all gone at the end."""
    async with AsyncExitStack() as stack:
        postgres, valkey = Server("postgres", folder), Valkey("valkey", folder)
        for server in (postgres, valkey):
            stack.push_async_callback(server.stop)
            await server.start()
        await asyncio.to_thread(upgrade, postgres.url)
        storm = Storm(postgres, valkey, [], [], [], [])
        for number in range(size.num_replicas):
            await _add_replica(storm, number, folder=folder, stack=stack)
        await asyncio.gather(*(replica.start() for replica in storm.replicas))
        for replica in storm.replicas:
            stack.push_async_callback(replica.kill)
        storm.runs = await _create_runs(storm.direct[0], size)
        yield storm


async def _add_replica(storm: Storm, number: int, *, folder: Path, stack: AsyncExitStack) -> None:
    own = folder / f"r{number}"
    own.mkdir()
    head, _, tail = storm.postgres.url.partition("?host=")
    host, _, pg_port = tail.partition("&port=")
    name = f".s.PGSQL.{pg_port}"
    port, front = free_port(), free_port()
    for made in (
        link(f"redis-{number}", storm.valkey.socket, listen=own / "redis.sock"),
        link(f"postgres-{number}", Path(unquote(host)) / name, listen=own / name),
        link(f"clients-{number}", port, listen=front),
    ):
        storm.links.append(await stack.enter_async_context(made))
    environment = {
        "ETUDE_DATABASE_URL": f"{head}?host={quote(str(own), safe='')}&port={pg_port}",
        "ETUDE_REDIS_URL": f"unix://{quote(str(own / 'redis.sock'))}",
        "ETUDE_DEPENDENCY_TIMEOUT_S": str(_TIMEOUT_S),
        "ETUDE_POOL_SIZE": "8",
        "ETUDE_LOG_LEVEL": "warning",
    }
    storm.replicas.append(
        Replica(f"replica-{number}", port, environment, folder / f"replica-{number}.log")
    )
    storm.urls.append(f"http://127.0.0.1:{front}")
    storm.direct.append(f"http://127.0.0.1:{port}")


async def _create_runs(url: str, size: Size) -> list[Run]:
    limits = RunLimits(
        training_batch_groups=4,
        max_group_bytes=1 << 16,
        cargo_bytes=1 << 22,
        lease_ttl_s=LEASE_TTL_S,
        training_lease_ttl_s=LEASE_TTL_S,
    )
    runs = []
    async with AsyncEtudeClient(url) as client:
        for mode in (RunMode.TRAINING, RunMode.CURRICULUM_ONLY):
            gate = Part(name="vcrl", knobs={"kappa": 0.8})  # with a bank where there are tokens
            dataset = await client.create_dataset(DatasetCreate(name=f"storm-{mode.value}"))
            tasks = [task(number) for number in range(size.num_tasks)]
            await client.import_tasks(dataset.id, lines(tasks).splitlines())
            wanted = RunCreate(
                name=mode.value,
                dataset_id=dataset.id,
                mode=mode,
                group_size=GROUP_SIZE,
                curriculum=CurriculumConfig(preset="dscl", gate=gate),
                limits=limits,
                seed=11,
            )
            runs.append(await client.create_run(wanted))
    return runs


async def ride(
    size: Size,
    faults: list[Fault],
    *,
    seed: int,
    say: Callable[[str], None] = print,
    after: Callable[[Storm, Diary], Awaitable[None]] | None = None,
) -> Outcome:
    """Raise a storm, let it pass, audit what is left; `after` that, as long as all is up."""
    folder = Path(tempfile.mkdtemp(prefix="etude-storm-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    began = time.monotonic()
    diary, stop = Diary(), asyncio.Event()
    try:
        async with raised(size, folder) as storm, http_client() as http:
            gremlin = Gremlin(
                storm.replicas,
                storm.links,
                storm.postgres,
                storm.valkey,
                Caller(storm.urls, diary, random.Random(f"gremlin {seed}"), http),
                diary,
            )
            clients = [
                asyncio.create_task(one)
                for one in _clients(storm, size, diary=diary, seed=seed, stop=stop, http=http)
            ]
            try:
                await gremlin.rage(faults, say=say)
                await gremlin.calm()
                stop.set()
                _, late = await asyncio.wait(clients, timeout=_ANSWERS_WITHIN_S)
                if late:
                    diary.fault(f"{len(late)} clients have no answer after the storm")
            finally:
                for client in clients:
                    client.cancel()
                ended = await asyncio.gather(*clients, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    diary.fault(f"a client broke: {type(error).__name__}: {error}")
            await _drained(storm, http)
            await _ask_again(storm, diary, http=http, seed=seed)
            findings = await asyncio.to_thread(
                audit, storm.postgres.url, storm.valkey.url, storm.runs, diary
            )
            if after is not None:
                await after(storm, diary)
        if any(findings.wrong.values()):
            say(f"logs are kept in {folder}")
        return Outcome(seed, time.monotonic() - began, gremlin.struck, diary.counts, findings)
    finally:
        if not diary.wrong:
            shutil.rmtree(folder, ignore_errors=True)


def _clients(
    storm: Storm,
    size: Size,
    *,
    diary: Diary,
    seed: int,
    stop: asyncio.Event,
    http: httpx.AsyncClient,
) -> list[Coroutine[None, None, None]]:
    training, outcomes_only = storm.runs
    made: list[Coroutine[None, None, None]] = []

    def caller(name: str) -> Caller:
        return Caller(storm.urls, diary, random.Random(f"{name} calls {seed}"), http)

    for number in range(size.num_workers):
        name = f"worker-{number}"
        run = outcomes_only if number % 3 == 2 else training
        rng = random.Random(f"{name} {seed}")
        made.append(
            Worker(name, run, caller(name), diary, rng, stop, with_tokens=run is training).work()
        )
    for number in range(size.num_trainers):
        name = f"trainer-{number}"
        rng = random.Random(f"{name} {seed}")
        made.append(Trainer(name, training, caller(name), diary, rng, stop).train())
    rng = random.Random(f"announcer {seed}")
    made.append(Announcer(outcomes_only, caller("announcer"), diary, rng, stop).announce())
    return made


async def _drained(storm: Storm, http: httpx.AsyncClient) -> None:
    """Every lease has ended and every decision is in PostgreSQL."""

    async def idle() -> bool:
        for run in storm.runs:
            answer = await http.get(f"{storm.direct[0]}/v1/runs/{run.id}/curriculum")
            if answer.status_code != 200:
                return False
            counts = answer.json()["counts"]
            if counts["num_prompt_leases"] or counts["num_training_leases"]:
                return False
        async with storm.valkey.client() as redis:
            logs = [await redis.xlen(f"etude:{{{run.id}}}:log") for run in storm.runs]
        return not any(logs)

    await wait_until(idle, what="leases end and decisions are drained", timeout_s=60.0)


async def _ask_again(storm: Storm, diary: Diary, *, http: httpx.AsyncClient, seed: int) -> None:
    """Every acknowledged report and ack once more: the same bytes."""
    caller = Caller(storm.direct, diary, random.Random(f"again {seed}"), http)
    for sent in diary.answered():
        if not sent.acknowledged:
            continue
        again = Sent(sent.kind, sent.path, sent.key, sent.body, sent.content_type, sent.run_id)
        await caller.send(again)
        if again.content != sent.content:
            diary.fault(f"{sent.kind} {sent.path} key {sent.key}: another answer on a retry")
        if sent.kind == "report":
            Receipt.model_validate_json(again.content)
        diary.counts["asked again"] += 1
