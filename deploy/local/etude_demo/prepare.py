"""The way to a running demo: model, ports, commands of the services, tasks, run.

Everything goes through the services' own commands and the sampler's API; called by `app.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etude_client import EtudeClient
from etude_proto.v1 import CurriculumConfig, Run, RunCreate, RunLimits
from etude_rollout.models.smollm2 import is_complete

from .options import Options, child_environment
from .supervisor import Launch

PRESET = "dscl"
MAX_STALENESS = 2
"""Bounds the published versions on disk too: half a gigabyte each for SmolLM2."""
LEASE_TTL_S = 20.0
"""Tasks of a killed worker come round again after this time."""
WEIGHTS_REFUSED = 3
"""Exit code of a rollout worker whose engine does not compute what the trainer computed."""


class PreparationFailed(Exception):
    """A step before the loop failed; what it said is on the screen."""


class Interrupted(Exception):
    """The user wants to stop."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the services listen."""

    sampler: int
    rollout: int
    trainer: int
    vllm: int

    @property
    def sampler_url(self) -> str:
        """Base URL of the sampler, and of its dashboard."""
        return f"http://127.0.0.1:{self.sampler}"

    @property
    def rollout_url(self) -> str:
        """Base URL of the rollout service's small API."""
        return f"http://127.0.0.1:{self.rollout}"

    @property
    def trainer_url(self) -> str:
        """Base URL of the trainer's small API."""
        return f"http://127.0.0.1:{self.trainer}"


def choose_ports(preferred: Mapping[str, int]) -> Places:
    """The preferred ports, and free ones for those that are taken."""
    return Places(**{service: _free_port(port) for service, port in preferred.items()})


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PreparationFailed("no port is free on 127.0.0.1")


def threads() -> tuple[int, int]:
    """Compute threads of engine and trainer: they work at the same time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = max(1, available or 1)
    engine = max(1, cores // 2)
    return engine, max(1, cores - engine)


def run_step(command: Sequence[str], options: Options, *, is_stopped: Callable[[], bool]) -> None:
    """Run a command on our own terminal, so that its progress is seen, and wait for it.

    Raises:
        PreparationFailed: it failed, and has said why.
        Interrupted: stopped meanwhile; the command was ended.
    """
    environment = child_environment(options.data)
    process = subprocess.Popen(command, env=environment, cwd=options.root)
    while True:
        try:
            code = process.wait(0.2)
            break
        except subprocess.TimeoutExpired:
            if is_stopped():
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise Interrupted from None
    if is_stopped():
        raise Interrupted
    if code != 0:
        raise PreparationFailed(
            f"{Path(command[0]).name} {' '.join(command[1:3])}: exit code {code}"
        )


def make_model(options: Options, *, is_stopped: Callable[[], bool]) -> None:
    """The policy's model directory, unless it is there.

    Raises:
        PreparationFailed, Interrupted: see `run_step`.
    """
    command = [str(options.bin / "etude-rollout"), "models"]
    if options.policy == "small":
        if is_complete(options.model_dir):
            return
        run_step(
            [*command, "fetch-smollm2", "--out", str(options.model_dir)],
            options,
            is_stopped=is_stopped,
        )
        return
    if (options.model_dir / "tasks.jsonl").is_file():
        return
    unfinished = options.model_dir.with_name("tiny.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    tasks = unfinished / "tasks.jsonl"
    arguments = ["make-tiny", "--out", str(unfinished), "--tasks", str(tasks)]
    run_step([*command, *arguments], options, is_stopped=is_stopped)
    shutil.rmtree(options.model_dir, ignore_errors=True)
    unfinished.rename(options.model_dir)


def sampler_launch(options: Options, places: Places) -> Launch:
    """The sampler on its embedded servers."""
    return Launch(
        name="sampler",
        command=[
            *(str(options.bin / "etude"), "serve", "--port", str(places.sampler)),
            *("--data-dir", str(options.data)),
        ],
        environment=child_environment(options.data),
        cwd=options.root,
        log=options.demo_dir / "logs" / "sampler.log",
    )


def rollout_launch(options: Options, places: Places, run: Run) -> Launch:
    """The rollout worker of the run."""
    settings = {
        **options.profile.rollout,
        "SAMPLER_URL": places.sampler_url,
        "RUN": run.id,
        "MODEL_PATH": str(options.model_dir),
        "WEIGHTS_ROOT": str(options.data / "weights"),
        "ENGINE": options.engine,
        "ENGINE_THREADS": str(threads()[0]),
        "VLLM_PYTHON": str(options.vllm_python),
        "VLLM_PORT": str(places.vllm),
        "ROLLOUT_PORT": str(places.rollout),
        "SHUTDOWN_GRACE_S": "3",
        "LEASE_WAIT_S": "2",
    }
    return Launch(
        name="rollout",
        command=[str(options.bin / "etude-rollout"), "worker"],
        environment=_with_settings(options, settings),
        cwd=options.root,
        log=options.demo_dir / "logs" / "rollout.log",
        fatal_codes=frozenset({WEIGHTS_REFUSED}),
    )


def trainer_launch(options: Options, places: Places, run: Run) -> Launch:
    """The trainer of the run."""
    config = options.demo_dir / f"trainer-{options.policy}.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(options.profile.trainer, encoding="utf-8")
    settings = {
        "SAMPLER_URL": places.sampler_url,
        "RUN": run.id,
        "TRAINER_MODEL": str(options.model_dir),
        "TRAINER_CONFIG": str(config),
        "TRAINER_DIR": str(options.data / "trainer"),
        "TRAINER_PORT": str(places.trainer),
        "TRAINER_THREADS": str(threads()[1]),
        "TRAINER_DEVICE": "cpu" if options.engine == "transformers" else "auto",
        "WEIGHTS_ROOT": str(options.data / "weights"),
    }
    return Launch(
        name="trainer",
        command=[str(options.bin / "etude-trainer"), "run"],
        environment=_with_settings(options, settings),
        cwd=options.root,
        log=options.demo_dir / "logs" / "trainer.log",
    )


def _with_settings(options: Options, settings: Mapping[str, str]) -> dict[str, str]:
    named = {f"ETUDE_{name}": value for name, value in settings.items()}
    return {**child_environment(options.data), **named}


def find_run(client: EtudeClient, name: str) -> Run | None:
    """The newest run of this name, or null.

    Raises:
        EtudeError: the sampler does not answer.
    """
    named = [run for run in client.iter_runs() if run.name == name]
    return max(named, key=lambda run: run.created_at, default=None)


def import_tasks(options: Options, places: Places, *, is_stopped: Callable[[], bool]) -> None:
    """The policy's tasks into the sampler; what is there already stays.

    Raises:
        PreparationFailed, Interrupted: see `run_step`.
    """
    source = (
        ["bfcl", "--category", "simple_python"]
        if options.policy == "small"
        else ["jsonl", str(options.model_dir / "tasks.jsonl")]
    )
    target = ["--dataset", options.profile.dataset, "--url", places.sampler_url]
    command = [str(options.bin / "etude"), "import", *source, *target]
    run_step(command, options, is_stopped=is_stopped)


def create_run(client: EtudeClient, options: Options) -> Run:
    """A new run over the policy's tasks.

    Raises:
        EtudeError: the sampler does not answer, or refuses.
        PreparationFailed: the tasks are not there.
    """
    profile = options.profile
    datasets = client.list_datasets(limit=1000).items
    ids = [dataset.id for dataset in datasets if dataset.name == profile.dataset]
    if not ids:
        raise PreparationFailed(f"the sampler has no dataset {profile.dataset}")
    return client.create_run(
        RunCreate(
            name=options.run_name,
            dataset_id=ids[0],
            curriculum=CurriculumConfig(preset=PRESET),
            group_size=profile.group_size,
            seed=0,
            limits=RunLimits(
                training_batch_groups=profile.batch_groups,
                cap_groups=profile.cap_groups,
                max_staleness=MAX_STALENESS,
                lease_ttl_s=LEASE_TTL_S,
            ),
        )
    )
