"""What the services say: polled from their public APIs, nothing computed but differences.

`Watcher.poll` asks sampler, rollout and trainer; a service that does not answer leaves null. Read
by `view.py`, `lines.py` and `summary.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import Counts, CurriculumView, HistoryPoint
from etude_rollout.status import RolloutStatus
from etude_trainer.api.models import TrainerStatus

from .prepare import Places

TIMEOUT_S = 2.0
HISTORY_PAGE = 50
SPLIT = ("generate", "score", "report", "load")
"""The rollout service's own times (`RolloutStatus.seconds`)."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(slots=True)
class Conservation:
    """Every task waits or is leased: checked at every poll (nothing is parked in this release)."""

    num_checks: int = 0
    num_failed: int = 0
    last_failure: str = ""

    def check(self, counts: Counts) -> None:
        """Count one check."""
        self.num_checks += 1
        if counts.num_waiting + counts.num_leased != counts.num_tasks:
            self.num_failed += 1
            self.last_failure = (
                f"{counts.num_waiting} waiting + {counts.num_leased} leased"
                f" is not {counts.num_tasks} tasks"
            )


class StepClock:
    """Splits the rollout service's running times into steps; kept in a file over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, float] = {}
        self._version: int | None = None
        self._spent = dict.fromkeys(SPLIT, 0.0)
        self.steps: dict[int, dict[str, float]] = {}
        """Policy version -> seconds by activity since the version before."""
        if path.is_file():
            for line in path.read_text("utf-8").splitlines():
                record = json.loads(line)
                self.steps[int(record["policy_version"])] = record["seconds"]

    def observe(self, version: int, seconds: dict[str, float] | None) -> None:
        """Take in the run's version and the running times, if the worker answered.

        Several versions between two looks share the time alike.
        """
        for name, now in (seconds or {}).items():
            before = self._last.get(name, 0.0)
            # A worker that was started again counts from zero.
            self._spent[name] = self._spent.get(name, 0.0) + (
                now - before if now >= before else now
            )
            self._last[name] = now
        if self._version is None:
            self._version = version
            return
        num_new = version - self._version
        if num_new <= 0:
            return
        share = {name: round(spent / num_new, 4) for name, spent in self._spent.items()}
        with self._path.open("a", encoding="utf-8") as file:
            for passed in range(self._version + 1, version + 1):
                self.steps[passed] = share
                file.write(json.dumps({"policy_version": passed, "seconds": share}) + "\n")
        self._spent = dict.fromkeys(SPLIT, 0.0)
        self._version = version


@dataclass(slots=True)
class Seen:
    """The newest answers."""

    curriculum: CurriculumView | None = None
    """Kept while the sampler is away."""
    history: list[HistoryPoint] = field(default_factory=list)
    rollout: RolloutStatus | None = None
    """Null while the service does not answer."""
    trainer: TrainerStatus | None = None
    sampler_answers: bool = False

    @property
    def step(self) -> int:
        """The run's policy version."""
        return 0 if self.curriculum is None else self.curriculum.policy_version


class Watcher:
    """Polls the services of one run."""

    def __init__(self, client: EtudeClient, places: Places, run_id: str, *, clock: StepClock):
        self.seen = Seen()
        self.conservation = Conservation()
        self.clock = clock
        self._client = client
        self._places = places
        self._run_id = run_id
        self._http = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        self._pages: list[str | None] = [None]
        """Cursors of the history's pages; the last page is read again as it grows."""

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def poll(self) -> list[HistoryPoint]:
        """Ask all services once; returns the steps that are new."""
        seen = self.seen
        seen.rollout = self._status(self._places.rollout_url, RolloutStatus)
        seen.trainer = self._status(self._places.trainer_url, TrainerStatus)
        seen.sampler_answers = False
        try:
            seen.curriculum = self._client.get_curriculum(self._run_id)
            seen.sampler_answers = True
            self.conservation.check(seen.curriculum.counts)
            fresh = self._new_points()
        except EtudeError:
            fresh = []
        if seen.curriculum is not None:
            seconds = None if seen.rollout is None else seen.rollout.seconds
            self.clock.observe(seen.curriculum.policy_version, seconds)
        return fresh

    def _status(self, url: str, model: type[ModelT]) -> ModelT | None:
        try:
            answer = self._http.get(f"{url}/v1/status")
            answer.raise_for_status()
            return model.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError):
            return None

    def _new_points(self) -> list[HistoryPoint]:
        """Points of the history that were not there before.

        Raises:
            EtudeError: the sampler does not answer.
        """
        history = self.seen.history
        newest = history[-1].policy_version if history else -1
        if self.seen.step <= max(newest, 0):
            return []
        fresh: list[HistoryPoint] = []
        while True:
            cursor = self._pages[-1]
            page = self._client.get_history(self._run_id, limit=HISTORY_PAGE, cursor=cursor)
            fresh += [point for point in page.items if point.policy_version > newest]
            if page.next_cursor is None:
                break
            self._pages.append(page.next_cursor)
        history += fresh
        return fresh
