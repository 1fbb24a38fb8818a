"""What is rehearsed: up, a batch and a step over the published address, `kill -9` of each, down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etude_client import EtudeClient
from etude_client.errors import EtudeError
from etude_proto.v1 import CurriculumConfig, Run, RunCreate, RunLimits

from .observing import check_observability
from .shell import Failed, Shell, say
from .stage import Stage
from .waiting import await_that
from .witness import Witness

URL = "http://127.0.0.1:8321"
VICTIMS = ("sampler", "sampler", "redis", "postgres", "proxy", "rollout", "trainer")
"""Services to kill, one container after the other; both samplers."""
BACK_S, STEP_S = 300.0, 900.0
OVERRIDE = {
    "services": {
        # Nothing can be downloaded inside: the small model of the tests, made on the spot.
        "model": {
            "command": [
                *("etude-rollout", "models", "make-tiny"),
                *("--out", "/models/policy", "--tasks", "/models/tasks.jsonl", "--steps", "150"),
            ],
            "networks": ["loop"],
        },
        "rollout": {
            "environment": {
                "ETUDE_EXPLAIN_FORMAT": "false",
                "ETUDE_MAX_NEW_TOKENS": "80",
                "ETUDE_TASKS_PER_BATCH": "4",
                "ETUDE_ENGINE_THREADS": "1",
            }
        },
        "trainer": {"environment": {"ETUDE_TRAINER_THREADS": "1"}},
    }
}
"""What differs from the committed file."""
_RUN_AUDIT = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM ledger WHERE run_id = '{run}' AND verdict = 'applied'
        GROUP BY lease_id, ordinal, number HAVING count(*) > 1) twice),
       (SELECT count(*) FROM ledger WHERE run_id = '{run}' AND verdict = 'applied'),
       (SELECT coalesce(sum(n), 0) FROM task_statistics WHERE run_id = '{run}'),
       (SELECT count(*) FROM policy_versions WHERE run_id = '{run}'),
       (SELECT coalesce(max(version), 0) FROM policy_versions WHERE run_id = '{run}')
"""


def play(shell: Shell, work: Path) -> None:
    """All of it, inside the namespace. Raises Failed: something does not hold."""
    override = work / "run.json"
    override.write_text(json.dumps(OVERRIDE), "utf-8")
    stage = Stage(shell, override)
    try:
        with explained(stage):
            _play(stage, work)
    finally:
        stage.try_compose("--profile", "*", "down", "--volumes", "--timeout", "5")


@contextmanager
def explained(stage: Stage) -> Iterator[None]:
    """Whatever fails is shown with the containers and the end of their logs."""
    try:
        yield
    except Failed as failure:
        state = stage.try_compose("ps", "--all")
        logs = stage.try_compose("logs", "--no-color", "--tail", "25")
        raise Failed(f"{failure}\n{state}\n{logs}") from failure


def _play(stage: Stage, work: Path) -> None:
    say(f"up: everything healthy after {stage.up():.0f} s")
    api_key = (work / "secrets/api_key").read_text("utf-8").strip()
    _check_containers(stage)
    _import_tasks(stage, work)
    with EtudeClient(URL, api_key=api_key, max_attempts=60) as client:
        run = _create_run(client)
        took = _reach(client, run, 1)
        say(f"first training step {took:.0f} s after the run was created")
        check_observability(stage)
        witness = Witness(URL, api_key)
        witness.start()
        try:
            _kill_each(stage, client, run)
        finally:
            witness.stop()
        say(witness.check(stage))
        _audit(stage, client, run)
    say(f"down --volumes: {stage.down():.1f} s, nothing left")


def _check_containers(stage: Stage) -> None:
    """What the file promises of every container of ours, tried from inside."""
    for service in ("sampler", "rollout", "trainer"):
        user = stage.compose("exec", "-T", service, "id", "-u").strip()
        shell = "touch /opt/etude/x 2>/dev/null || touch /x 2>/dev/null || echo refused"
        written = stage.compose("exec", "-T", service, "sh", "-c", shell).strip()
        if (user, written) != ("10001", "refused"):
            raise Failed(f"{service}: runs as {user}, writing to its file system: {written!r}")
        tree = stage.compose("exec", "-T", service, "cat", "/proc/1/status")
        if "CapEff:\t0000000000000000" not in tree or "NoNewPrivs:\t1" not in tree:
            raise Failed(f"{service}: has capabilities or may gain privileges")
    say("our containers: uid 10001, no capabilities, file systems refuse writes")


def _import_tasks(stage: Stage, work: Path) -> None:
    """As docs/how-to/operate.md says: by the command inside."""
    tasks = work / "tasks.jsonl"
    (model,) = stage.containers("model")
    stage.shell.run("docker", "cp", f"{model}:/models/tasks.jsonl", tasks)
    tasks.chmod(0o644)
    mount = f"{tasks}:/data/tasks.jsonl:ro"
    command = ("import", "jsonl", "/data/tasks.jsonl", "--dataset", "mine")
    stage.compose("--profile", "cli", "run", "--rm", "-T", "-v", mount, "cli", *command)


def _create_run(client: EtudeClient) -> Run:
    dataset = next(one for one in client.iter_datasets() if one.name == "mine")
    return client.create_run(
        RunCreate(
            name="loop",
            dataset_id=dataset.id,
            curriculum=CurriculumConfig(preset="dscl"),
            group_size=8,
            limits=RunLimits(
                training_batch_groups=2,
                cap_groups=8,
                max_group_bytes=4 << 20,
                lease_ttl_s=10.0,
                training_lease_ttl_s=20.0,
            ),
            seed=1,
        )
    )


def _version(client: EtudeClient, run: Run) -> int:
    try:
        return client.get_run(run.id).policy_version
    except EtudeError:
        return -1


def _reach(client: EtudeClient, run: Run, version: int) -> float:
    """Seconds until the run is at a policy version."""
    return await_that(
        lambda: _version(client, run) >= version, what=f"version {version}", within_s=STEP_S
    )


def _kill_each(stage: Stage, client: EtudeClient, run: Run) -> None:
    struck: list[str] = []
    for service in VICTIMS:
        name = next(one for one in stage.containers(service) if one not in struck)
        struck.append(name)
        back = stage.strike(name, within_s=BACK_S)
        before = max(_version(client, run), 0)
        step = _reach(client, run, before + 1)
        say(f"kill -9 {name}: healthy after {back:.1f} s, next training step {step:.0f} s later")


def _audit(stage: Stage, client: EtudeClient, run: Run) -> None:
    """Nothing lost, nothing twice, in the run of rollout and trainer."""
    client.pause_run(run.id)
    counts = client.get_curriculum(run.id).counts
    total = counts.num_waiting + counts.num_leased + counts.num_parked
    ((twice, applied, folded, num_versions, newest),) = stage.query(_RUN_AUDIT.format(run=run.id))
    facts = (twice, total, applied, num_versions)
    if facts != ("0", counts.num_tasks, folded, newest) or applied == "0":
        raise Failed(f"audit of the run: {facts=} {counts=} {folded=} {newest=}")
    say(
        f"the run: {applied} groups in the ledger, none twice, all in the statistics; versions 1 "
        f"to {newest} without a hole; {total} of {counts.num_tasks} tasks are somewhere"
    )
