"""The run to train: found by id or name, before or after it exists, and fit for the settings."""

from __future__ import annotations

import logging
import re
from typing import Final

from etude_client import EtudeClient
from etude_client.errors import RunNotFound
from etude_proto.v1 import Run

from .config import AdvantageConfig
from .errors import AmbiguousRun, ConfigError, Stopped
from .stages.fetch import insist
from .status import StatusBoard
from .stop import StopSignal

logger = logging.getLogger(__name__)

RETRY_S: Final = 2.0
_ID = re.compile(r"run_[A-Za-z0-9_]+")


def find_run(client: EtudeClient, name: str) -> Run | None:
    """The run of that id, else the only one of that name, else null.

    Raises:
        AmbiguousRun: several runs have this name.
    """
    if _ID.fullmatch(name):
        try:
            return client.get_run(name)
        except RunNotFound:
            pass
    named = [run for run in client.iter_runs() if run.name == name]
    if len(named) > 1:
        ids = ", ".join(run.id for run in named)
        raise AmbiguousRun(f"{len(named)} runs are called {name!r}: {ids}; give an id")
    return named[0] if named else None


def await_run(client: EtudeClient, name: str, *, board: StatusBoard, stop: StopSignal) -> Run:
    """The run, as soon as there is one: services may start in any order.

    Raises:
        Stopped: a stop was asked for while there was none.
    """
    while True:
        run = insist(lambda: find_run(client, name), board=board, stop=stop)
        if run is not None:
            board.update(run_id=run.id)
            return run
        logger.warning("run.unknown", extra={"run": name})
        board.update(detail=f"there is no run {name!r} yet")
        if stop.wait(RETRY_S):
            raise Stopped("asked to stop while there was no run")


def check_credit(run: Run, config: AdvantageConfig) -> None:
    """Compare where a run's component weights act with what this trainer does about them.

    Raises:
        ConfigError: token spans are asked for that the run's trajectories do not carry.
    """
    if config.credit == "spans" and not run.credit.spans:
        raise ConfigError(
            f"advantage.credit: trajectories of run {run.name!r} carry no spans; "
            "create it with credit.spans"
        )
    in_advantage = run.credit.component_weights_in == "advantage"
    if in_advantage != (config.kind == "decoupled"):
        where = "advantage" if in_advantage else "reward"
        fields = {"component_weights_in": where, "advantage_kind": config.kind}
        logger.warning("credit.mismatch", extra=fields)
