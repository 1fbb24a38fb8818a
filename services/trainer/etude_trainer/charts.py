"""Charts: the metrics of every step that counts, as TensorBoard event files and, if asked for, in
Weights & Biases.

Written by `stages/record.py`, from rank 0. Steps are policy versions, so that a resumed trainer
goes on where it stopped. A trainer that went back to an earlier version starts a new event file
that hides the discarded steps (TensorBoard's purge step); W&B keeps them beside the new ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from etude_proto.v1 import Run

from .errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

WandbMode = Literal["off", "offline", "online"]


class Chart(Protocol):
    """Somewhere to draw the steps."""

    def stand(self, policy_version: int) -> None:
        """The next steps follow this version; what is drawn of later ones is void."""

    def add(self, policy_version: int, values: Mapping[str, float]) -> None:
        """Draw one step."""

    def close(self) -> None:
        """Write what is not written yet."""


class EventFiles:
    """TensorBoard's event files in a folder, one for every time that a trainer stands anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def stand(self, policy_version: int) -> None:
        """Begin a file that hides every step after `policy_version`."""
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._writer = SummaryWriter(str(self._folder), purge_step=policy_version + 1)

    def add(self, policy_version: int, values: Mapping[str, float]) -> None:
        """One scalar a value, on disk at once."""
        if self._writer is None:
            self.stand(policy_version - 1)
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, policy_version)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Wandb:
    """A Weights & Biases run of the same id as ours; project and entity are its own variables."""

    def __init__(self, folder: Path, *, run_id: str, name: str, mode: WandbMode) -> None:
        """
        Raises:
            ConfigError: the package is not installed.
        """
        check_wandb(mode)
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(folder),
            id=run_id,
            name=name,
            resume="allow",
            mode="offline" if mode == "offline" else "online",
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("policy_version")
        self._run.define_metric("*", step_metric="policy_version")

    def stand(self, policy_version: int) -> None:
        """Nothing: what was logged stays."""

    def add(self, policy_version: int, values: Mapping[str, float]) -> None:
        """One row."""
        self._run.log({"policy_version": policy_version, **values})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def check_wandb(mode: WandbMode) -> None:
    """Refuse at the start what would fail at the first step.

    Raises:
        ConfigError: W&B is asked for and not installed.
    """
    if mode != "off" and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"ETUDE_TRAINER_WANDB is {mode}, but the package wandb is not installed here"
        )


@contextmanager
def opened(folder: Path, *, run: Run, wandb: WandbMode) -> Iterator[list[Chart]]:
    """The charts of a run, in the trainer's folder for it; closed at the end."""
    charts: list[Chart] = [EventFiles(folder / "tensorboard")]
    if wandb != "off":
        charts.append(Wandb(folder, run_id=run.id, name=run.name, mode=wandb))
    try:
        yield charts
    finally:
        for chart in charts:
            chart.close()


_LEARNING = ("loss", "lr", "grad_norm", "entropy", "kl_", "clip_", "ratio_", "importance_", "nll_")
_SPEED = ("seconds_", "tokens_per_s", "mfu", "memory_", "wait_share", "flops", "padding_share")
_DATA = ("num_", "group_size_", "staleness_", "degraded", "masked_", "truncated_")


def tagged(metrics: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a step under TensorBoard's groups, with every stage's seconds."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if not name.startswith("seconds_"):
            found[f"{_group(name)}/{name}"] = value
    return {**found, **{f"seconds/{name}": value for name, value in seconds.items()}}


def _group(name: str) -> str:
    if name.startswith(_SPEED):
        return "speed"
    if name.startswith(_LEARNING):
        return "learning"
    return "batch" if name.startswith(_DATA) else "reward"
