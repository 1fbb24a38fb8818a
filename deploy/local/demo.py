"""`make demo`: real tasks in, a better policy out, on this machine.

Environment: POLICY (small, tiny), ENGINE (transformers, vllm), MINUTES. Starts the sampler with
its embedded servers, imports tasks, starts rollout and trainer, watches them (a service that dies
is started again), and writes `.etude/demo/summary.{json,png}`. Running it again resumes the run.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from demo_children import Child
from demo_plan import BIN, PLANS, Plan
from demo_summary import write_json, write_plot
from demo_view import line, screen
from demo_watch import Watch
from rich.console import Console
from rich.live import Live

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import CurriculumConfig, Run, RunCreate, RunLimits

HOME = Path(".etude")
DEMO = HOME / "demo"
OUT = Console(soft_wrap=True, highlight=False)
_LINE_S = 5.0


class DemoFailed(Exception):
    """Something that the demo cannot mend; said in one line."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def must(command: list[str], what: str) -> None:
    """Run a command in the foreground, its output shown."""
    if subprocess.run(command, check=False).returncode != 0:
        raise DemoFailed(f"{what} failed: {' '.join(command)}")


def make_model(plan: Plan) -> None:
    """Make the model once; a finished one is kept."""
    if (plan.model / "config.json").exists() and (plan.model / ".complete").exists():
        return
    OUT.print(f"making the model in {plan.model} (once) ...")
    must(list(plan.make_model), "making the model")
    (plan.model / ".complete").touch()


def wait_ready(client: EtudeClient, sampler: Child) -> None:
    """Wait until the sampler serves."""
    for _ in range(240):
        if not sampler.alive:
            raise DemoFailed(f"the sampler ended:\n{sampler.tail()}")
        try:
            client.readyz()
            return
        except EtudeError:
            time.sleep(0.25)
    raise DemoFailed(f"the sampler did not become ready:\n{sampler.tail()}")


def import_tasks(plan: Plan, url: str) -> None:
    """Import the plan's tasks; importing again creates nothing."""
    command = [str(BIN / "etude"), "import", *plan.import_tasks, "--url", url]
    if subprocess.run(command, check=False).returncode not in (0, 1):
        raise DemoFailed("the import failed")


def find_or_create_run(client: EtudeClient, plan: Plan) -> Run:
    """The demo's run of this policy: the one of before, or a new one."""
    name = f"demo-{plan.policy}"
    for run in client.iter_runs():
        if run.name == name:
            OUT.print(f"resuming {name} at policy version {run.policy_version}")
            return run
    dataset = next(one for one in client.iter_datasets() if one.name == plan.dataset)
    limits = RunLimits(
        training_batch_groups=plan.batch_groups,
        cap_groups=max(2 * plan.batch_groups, 16),
        max_group_bytes=4 << 20,
        max_staleness=2,
    )
    return client.create_run(
        RunCreate(
            name=name,
            dataset_id=dataset.id,
            curriculum=CurriculumConfig(preset="dscl"),
            group_size=plan.group_size,
            limits=limits,
        )
    )


def services(plan: Plan, run: Run, url: str, engine: str) -> tuple[list[Child], str, str]:
    """The rollout and trainer services, and the URLs of their small surfaces."""
    rollout_port, trainer_port = free_port(), free_port()
    config = DEMO / f"trainer-{plan.policy}.toml"
    config.write_text(plan.trainer_toml, "utf-8")
    weights, trainer_dir = (HOME / "weights").resolve(), (HOME / "trainer").resolve()
    for folder in (weights, trainer_dir):
        folder.mkdir(parents=True, exist_ok=True)
    shared = {"ETUDE_SAMPLER_URL": url, "ETUDE_RUN": run.id, "ETUDE_WEIGHTS_ROOT": str(weights)}
    shared |= {"OMP_WAIT_POLICY": "PASSIVE"}
    rollout = {
        **shared,
        **plan.rollout,
        "ETUDE_ENGINE": engine,
        "ETUDE_MODEL_PATH": str(plan.model.resolve()),
        "ETUDE_ROLLOUT_PORT": str(rollout_port),
        "ETUDE_VLLM_PYTHON": str(Path(".venv-vllm/bin/python").absolute()),
        "ETUDE_VLLM_PORT": str(free_port()),
    }
    trainer = {
        **shared,
        "ETUDE_TRAINER_MODEL": str(plan.model.resolve()),
        "ETUDE_TRAINER_CONFIG": str(config),
        "ETUDE_TRAINER_DIR": str(trainer_dir),
        "ETUDE_TRAINER_PORT": str(trainer_port),
    }
    children = [
        Child("rollout", [str(BIN / "etude-rollout"), "worker"], rollout, DEMO / "rollout.log"),
        Child("trainer", [str(BIN / "etude-trainer"), "run"], trainer, DEMO / "trainer.log"),
    ]
    return children, f"http://127.0.0.1:{rollout_port}", f"http://127.0.0.1:{trainer_port}"


def main() -> int:
    """Run the demo; 0 if it ended as planned or by Ctrl-C."""
    policy, engine = os.environ.get("POLICY", "small"), os.environ.get("ENGINE", "transformers")
    minutes = float(os.environ.get("MINUTES", "10") or "10")
    if policy not in PLANS or engine not in ("transformers", "vllm"):
        OUT.print("POLICY is small or tiny, ENGINE is transformers or vllm", style="red")
        return 2
    if engine == "vllm" and not Path(".venv-vllm/bin/python").exists():
        OUT.print("ENGINE=vllm needs its own environment: make setup-vllm", style="red")
        return 2
    DEMO.mkdir(parents=True, exist_ok=True)
    plan = PLANS[policy](HOME)
    stop = {"asked": False}

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if stop["asked"]:
            raise KeyboardInterrupt
        stop["asked"] = True

    signal.signal(signal.SIGTERM, ask)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    sampler = Child(
        "sampler",
        [str(BIN / "etude"), "serve", "--port", str(port), "--data-dir", str(HOME)],
        {},
        DEMO / "sampler.log",
    )
    children = [sampler]
    began = time.monotonic()
    try:
        make_model(plan)
        signal.signal(signal.SIGINT, ask)
        sampler.start()
        with EtudeClient(url, timeout_s=30, max_attempts=4) as client:
            wait_ready(client, sampler)
            import_tasks(plan, url)
            run = find_or_create_run(client, plan)
            more, rollout_url, trainer_url = services(plan, run, url, engine)
            for child in more:
                child.start()
            children += more
            watch = Watch(run)
            _watch(
                watch,
                client,
                children,
                urls=(url, rollout_url, trainer_url),
                until=time.monotonic() + 60 * minutes,
                stop=stop,
            )
            OUT.print("stopping: trainer and rollout finish what they hold ...")
            for child in reversed(more):
                child.stop(patience_s=20)
            watch.curriculum = client.get_curriculum(run.id)
            seconds = time.monotonic() - began
            summary = write_json(DEMO / "summary.json", watch, children, seconds=seconds)
            write_plot(DEMO / "summary.png", watch)
            _tell(watch, summary)
    except (DemoFailed, EtudeError) as error:
        OUT.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        OUT.print("stopped at once", style="yellow")
        return 130
    finally:
        for child in reversed(children):
            child.stop(patience_s=15)
    return 0


def _watch(
    watch: Watch,
    client: EtudeClient,
    children: list[Child],
    *,
    urls: tuple[str, str, str],
    until: float,
    stop: dict[str, bool],
) -> None:
    """Watch and mend until time is up or Ctrl-C; without a terminal, a line now and then."""
    url, rollout_url, trainer_url = urls
    live = Live(console=OUT, refresh_per_second=4, screen=False) if OUT.is_terminal else None
    told = 0.0
    if live is not None:
        live.start()
    try:
        while time.monotonic() < until and not stop["asked"]:
            for child in children:
                child.watch()
            watch.refresh(client, rollout_url=rollout_url, trainer_url=trainer_url)
            left = until - time.monotonic()
            if live is not None:
                live.update(screen(watch, children, left_s=left, url=url))
            elif time.monotonic() - told > _LINE_S:
                told = time.monotonic()
                OUT.print(line(watch, left_s=left))
            time.sleep(1.0)
    finally:
        if live is not None:
            live.stop()


def _tell(watch: Watch, summary: dict[str, object]) -> None:
    rewards = [point.mean_reward for point in watch.history if point.mean_reward is not None]
    third = max(1, len(rewards) // 3)
    if rewards:
        first, last = sum(rewards[:third]) / third, sum(rewards[-third:]) / third
        OUT.print(
            f"{len(rewards)} steps; mean reward of the first third {first:.2f}, "
            f"of the last {last:.2f}"
        )
    OUT.print(
        f"conservation holds: {summary.get('conservation_holds')}; restarts: {summary['restarts']}"
    )
    OUT.print(f"numbers: {DEMO / 'summary.json'}   plot: {DEMO / 'summary.png'}")


if __name__ == "__main__":
    if shutil.which("etude", path=str(BIN)) is None:
        sys.exit("run `make setup` first")
    sys.exit(main())
