"""A run on a real sampler behind a gate, and trainers that are started and killed on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch
from safetensors.torch import load_file

from etude_client import EtudeClient
from etude_proto.v1 import Lease

from .live_sampler import Gate, gated, live_sampler
from .tiny_model import save_tiny_model
from .tiny_worker import TinyWorker, create_run
from .trainer_process import start_ranks, start_trainer

ACK = r"POST /v1/training-batches/\w+/ack"
LEASE = r"POST /v1/runs/\w+/training-batches"
CONFIG = (
    "resume = '{resume}'\n[optimizer]\nlr = 1e-2\n[batch]\nwait_s = 0.5\nlease_ttl_s = {ttl_s}\n"
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A run, its worker, and the folder of the trainers."""

    client: EtudeClient
    run_id: str
    worker: TinyWorker
    folder: Path
    gate: Gate
    url: str
    """Of the gate."""

    def start(
        self,
        *,
        max_steps: int | None = None,
        state: str = "trainer",
        ttl_s: float = 20.0,
        resume: str = "exact",
        overlaps: bool = False,
    ) -> ForkServerProcess:
        """Start a trainer process."""
        command = self.command(
            max_steps=max_steps, state=state, ttl_s=ttl_s, resume=resume, overlaps=overlaps
        )
        return start_trainer(command, log=self.folder / f"{state}.log")

    def start_ranks(self, num_ranks: int, *, ttl_s: float = 20.0) -> list[ForkServerProcess]:
        """Start a trainer of several ranks."""
        command = self.command(ttl_s=ttl_s)
        return start_ranks(command, log=self.folder / "trainer.log", num_ranks=num_ranks)

    def command(
        self,
        *,
        max_steps: int | None = None,
        state: str = "trainer",
        ttl_s: float = 20.0,
        resume: str = "exact",
        overlaps: bool = False,
    ) -> list[str]:
        """The arguments of a trainer."""
        config = self.folder / f"{state}-{ttl_s}-{resume}-{overlaps}.toml"
        text = CONFIG.format(ttl_s=ttl_s, resume=resume)
        text += f"[overlap]\nenabled = {str(overlaps).lower()}\n"
        config.write_text(text, encoding="utf-8")
        command = ["run", "--run", self.run_id]
        command += ["--config", str(config), "--model", str(self.folder / "model")]
        command += ["--sampler-url", self.url, "--port", "0", "--device", "cpu"]
        command += ["--weights-root", str(self.folder / "weights")]
        command += ["--trainer-dir", str(self.folder / state)]
        if max_steps is not None:
            command += ["--max-steps", str(max_steps)]
        return command

    def events(self, state: str = "trainer") -> list[str]:
        """Names of the events that the trainers of a folder logged."""
        lines = (self.folder / f"{state}.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def version(self) -> int:
        """The announced version."""
        return self.client.get_run(self.run_id).policy_version

    def journal(self, state: str = "trainer") -> list[int]:
        """Versions of a folder's journal."""
        text = (self.folder / state / self.run_id / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line)["policy_version"] for line in text.splitlines()]

    def metrics(self) -> list[dict[str, float]]:
        """Metrics of the steps."""
        text = (self.folder / "trainer" / self.run_id / "metrics.jsonl").read_text("utf-8")
        return [json.loads(line)["metrics"] for line in text.splitlines()]

    def noted_leases(self) -> list[Lease]:
        """The leases that the trainer has noted on disk, oldest first."""
        text = (self.folder / "trainer" / self.run_id / "lease.json").read_text("utf-8")
        return [Lease.model_validate(one) for one in json.loads(text)]

    def check(self, *, state: str = "trainer") -> None:
        """Announced weights exist, the newest checkpoint is theirs, tasks are conserved."""
        run = self.client.get_run(self.run_id)
        assert run.weights_uri is not None
        announced = load_file(Path(run.weights_uri) / "model.safetensors")
        folder = self.folder / state / self.run_id
        newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.name)
        assert json.loads((newest / "state.json").read_text())["weights_uri"] == run.weights_uri
        assert (newest / "acked.json").is_file()
        ours = load_file(newest / "model.safetensors")
        assert all(torch.equal(ours[name], announced[name]) for name in announced)
        counts = self.client.get_curriculum(self.run_id).counts
        assert counts.num_waiting + counts.num_leased + counts.num_parked == counts.num_tasks
        assert counts.num_training_groups == 0
        history = list(self.client.iter_history(self.run_id))
        versions = [point.policy_version for point in history]
        assert versions == sorted(set(versions))


@contextmanager
def trainer_scene(folder: Path, database_url: str, redis_url: str) -> Iterator[Scene]:
    """A scene on a sampler of its own."""
    save_tiny_model(folder / "model")
    with (
        live_sampler(database_url, redis_url) as sampler_url,
        gated(sampler_url) as (url, gate),
        EtudeClient(sampler_url) as client,
    ):
        run = create_run(client, "crash")
        worker = TinyWorker(client, run.id, folder / "model")
        yield Scene(client, run.id, worker, folder, gate, url)


@contextmanager
def stopped_at_end(process: ForkServerProcess) -> Iterator[ForkServerProcess]:
    """The process, killed at the end if it still runs."""
    try:
        yield process
    finally:
        kill(process)


def kill(process: ForkServerProcess) -> None:
    """End it as a power cut would."""
    process.kill()
    process.join(timeout=30)


def finish(process: ForkServerProcess, *, code: int = 0) -> None:
    """Wait until it ends as it should."""
    process.join(timeout=90)
    assert process.exitcode == code
