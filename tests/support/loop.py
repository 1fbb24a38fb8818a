"""The whole loop as processes: sampler replica, rollout, trainer, on the test's own servers.

Everything goes through the public commands and the sampler's API, as in `make demo`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import CurriculumConfig, Run, RunCreate, RunLimits
from support.children import Child
from support.loop_plan import BIN, Plan, tiny
from support.tree import ROOT
from support.waiting import wait_for


@dataclass(slots=True)
class Loop:
    """A run with its services."""

    plan: Plan
    run: Run
    url: str
    dsn: str
    children: dict[str, Child] = field(default_factory=dict)

    def version(self) -> int:
        """The run's policy version; services that died are started again meanwhile."""
        for child in self.children.values():
            child.watch()
        try:
            with EtudeClient(self.url, timeout_s=10, max_attempts=1) as client:
                return client.get_run(self.run.id).policy_version
        except EtudeError:
            return -1

    def reach(self, version: int, *, timeout_s: float) -> None:
        """Wait for a policy version; a failure shows the services' logs."""
        try:
            wait_for(
                lambda: self.version() >= version, what=f"version {version}", timeout_s=timeout_s
            )
        except AssertionError as error:
            logs = "\n".join(f"== {c.name}\n{c.tail(30)}" for c in self.children.values())
            raise AssertionError(f"{error}\n{logs}") from error

    def stop(self) -> None:
        """End trainer and rollout, then the sampler."""
        for name in ("trainer", "rollout", "sampler"):
            if name in self.children:
                self.children[name].stop(patience_s=20)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Rows of the database; `%s` is the run's id."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement, (self.run.id,)).fetchall()


def make_tiny(home: Path) -> Plan:
    """The tiny policy and its tasks, made by the public command; once a state of its code."""
    plan = tiny(home)
    made, state = plan.model.parent, hashlib.sha256()
    for source in sorted((ROOT / "services" / "rollout" / "etude_rollout").rglob("*.py")):
        state.update(source.read_bytes())
    kept = ROOT / ".reports" / f"tiny-{state.hexdigest()[:16]}"
    if kept.is_dir():
        shutil.copytree(kept, made)
        return plan
    subprocess.run([*plan.make_model], check=True, capture_output=True)
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
        copy = shutil.copytree(made, Path(beside) / "tiny")
        with contextlib.suppress(OSError):  # another process kept its own meanwhile
            copy.rename(kept)
    return plan


def start_sampler(name: str, *, port: int, servers: Mapping[str, str], folder: Path) -> Child:
    """One replica, ready."""
    command = [sys.executable, "-m", "etude_sampler", "serve", "--port", str(port)]
    child = Child(name, command, servers, folder / f"{name}.log")
    child.start()
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            with EtudeClient(url, max_attempts=1) as client:
                return client.readyz().status == "ok"
        except EtudeError:
            return False

    wait_for(ready, what=f"{name} ready: {child.tail()}", timeout_s=30)
    return child


def create_run(url: str, plan: Plan, **limits: int) -> Run:
    """Import the plan's tasks and create a run on them."""
    command = [str(BIN / "etude"), "import", *plan.import_tasks, "--url", url]
    subprocess.run(command, check=True, capture_output=True)
    with EtudeClient(url) as client:
        dataset = next(one for one in client.iter_datasets() if one.name == plan.dataset)
        bounds = {
            "training_batch_groups": plan.batch_groups,
            "cap_groups": 2 * plan.batch_groups,
            "max_group_bytes": 4 << 20,
            "max_staleness": 2,
        }
        wanted = RunLimits.model_validate(bounds | limits)
        return client.create_run(
            RunCreate(
                name="e2e",
                dataset_id=dataset.id,
                curriculum=CurriculumConfig(preset="dscl"),
                group_size=plan.group_size,
                limits=wanted,
                seed=1,
            )
        )


def start_services(
    loop: Loop,
    folder: Path,
    *,
    rollout_url: str,
    engine: Mapping[str, str] | None = None,
    trainer_settings: Mapping[str, str] | None = None,
    rollout_port: int = 0,
) -> None:
    """Rollout and trainer of a loop, with one compute thread each."""
    config = folder / "trainer.toml"
    config.write_text(loop.plan.trainer_toml, "utf-8")
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    shared = {"ETUDE_RUN": loop.run.id, "ETUDE_WEIGHTS_ROOT": str(weights)}
    rollout = {
        **shared,
        **loop.plan.rollout,
        **(engine or {"ETUDE_ENGINE": "transformers", "ETUDE_ENGINE_THREADS": "1"}),
        "ETUDE_SAMPLER_URL": rollout_url,
        "ETUDE_MODEL_PATH": str(loop.plan.model),
        "ETUDE_ROLLOUT_PORT": str(rollout_port),
        "ETUDE_SEED": "1",
    }
    trainer = {
        **shared,
        "ETUDE_SAMPLER_URL": loop.url,
        "ETUDE_TRAINER_MODEL": str(loop.plan.model),
        "ETUDE_TRAINER_CONFIG": str(config),
        "ETUDE_TRAINER_DIR": str(folder / "trainer"),
        "ETUDE_TRAINER_PORT": "0",
        "ETUDE_TRAINER_THREADS": "1",
        **(trainer_settings or {}),
    }
    for name, command, environment in (
        ("rollout", [str(BIN / "etude-rollout"), "worker"], rollout),
        ("trainer", [str(BIN / "etude-trainer"), "run"], trainer),
    ):
        child = Child(name, command, environment, folder / f"{name}.log")
        child.start()
        loop.children[name] = child


def smaller(plan: Plan, *, group_size: int, batch_groups: int) -> Plan:
    """The plan with smaller batches."""
    rollout = {**plan.rollout, "ETUDE_TASKS_PER_BATCH": str(batch_groups)}
    return replace(plan, group_size=group_size, batch_groups=batch_groups, rollout=rollout)


def parity_gaps(child: Child) -> list[float]:
    """Every parity gap that the rollout logged."""
    gaps = []
    for text in child.log.read_text("utf-8", "replace").splitlines():
        if not text.startswith("{"):
            continue
        record = json.loads(text)
        if "parity_gap" in record or "gap" in record:
            gaps.append(float(record.get("parity_gap", record.get("gap"))))
    return gaps
