"""Validation: what evaluations of this run's published versions found, read from a file.

`etude-rollout eval ... --run NAME` appends a line to `validation-NAME.jsonl`; nobody is told, and
no statistics move. The trainer looks there after every step (`stages/record.py`), draws what is
new at the version that was evaluated, shows the newest, and keeps the weights of versions that are
to be evaluated. The detector of reference resets may use it (`stages/reset.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from etude_proto.v1 import Run

from .checkpoint import version_of
from .config import TrainingConfig
from .durable import write_file

logger = logging.getLogger(__name__)

MAX_AWAITED: Final = 2
"""Versions whose weights are kept for an evaluation that is not there yet: the newest."""
_MAX_TAG: Final = 80


class Evaluation(BaseModel):
    """A line of the file: one evaluation of one version. Its writer is the rollout service."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal["etude-validation/1"]
    policy_version: int | None
    benchmark: str
    data: str
    """Rows and checker."""
    measure: str
    """Which mean."""
    mean: float = Field(ge=0.0, le=1.0)
    num_answered: int
    is_complete: bool
    seed: int
    precision: str

    @property
    def series(self) -> tuple[str, str, str, int, str]:
        """What it may be compared within."""
        return (self.benchmark, self.measure, self.data, self.seed, self.precision)

    def is_of(self, policy_version: int) -> bool:
        """Whether it is a whole evaluation of that version or an earlier one."""
        own = self.policy_version
        return self.is_complete and own is not None and own <= policy_version


class _Note(BaseModel):
    """What this trainer has seen, in its own folder."""

    shown: list[Evaluation] = []
    """Drawn, as they came."""
    void: list[Evaluation] = []
    """Of versions that the run was taken back from; their numbers come again."""


class Validation:
    """The evaluations of one run."""

    def __init__(self, files: Sequence[Path], note: Path, *, every_steps: int) -> None:
        """
        Args:
            files: where lines may be; they need not exist.
            note: a file of the trainer's own.
            every_steps: every version with a multiple of this number is to be evaluated; 0: none.
        """
        self._files = tuple(files)
        self._note = note
        self._every_steps = every_steps
        self._seen = _Note()
        self._complained: set[str] = set()

    @property
    def newest(self) -> Evaluation | None:
        """Of the highest version, among what may be compared with the first one shown."""
        shown = self._seen.shown
        own = [one for one in shown if one.series == shown[0].series]
        return max(own, key=lambda one: one.policy_version or 0, default=None)

    def stand(self, policy_version: int) -> None:
        """The model stands at a version: what is said of later ones is of another future, or of a
        run of the same name."""
        try:
            self._seen = _Note.model_validate_json(self._note.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            self._seen = _Note()
        void = [one for one in self._read() if not one.is_of(policy_version)]
        shown = [one for one in self._seen.shown if one.is_of(policy_version)]
        self._keep(shown, [*self._seen.void, *(one for one in void if one.is_complete)])

    def new(self, policy_version: int) -> list[Evaluation]:
        """Evaluations of versions up to this one that were not returned before."""
        known = {*self._seen.shown, *self._seen.void}
        found = [one for one in self._read() if one.is_of(policy_version) and one not in known]
        if found:
            self._keep([*self._seen.shown, *found], self._seen.void)
        return found

    def tag(self, evaluation: Evaluation) -> str:
        """Name of its curve; what must not be compared has curves of its own."""
        head = evaluation.series[:2]
        alike = dict.fromkeys(one.series for one in self._seen.shown if one.series[:2] == head)
        number = list(alike).index(evaluation.series) if evaluation.series in alike else len(alike)
        name = re.sub(r"[^\w.-]+", "_", " ".join(head))[:_MAX_TAG]
        return f"validation/{name}" + (f"_{number + 1}" if number else "")

    def awaited(self, folder: Path) -> set[str]:
        """Published directories in `folder` that an evaluation is to read still."""
        if not self._every_steps:
            return set()
        answered = {one.policy_version for one in self._seen.shown}
        found: dict[int, Path] = {}
        for path in folder.glob("v*"):
            version = version_of(path)
            if version is not None and version % self._every_steps == 0:
                found[version] = path
        waiting = sorted(version for version in found if version not in answered)
        return {str(found[version]) for version in waiting[-MAX_AWAITED:]}

    def _keep(self, shown: list[Evaluation], void: list[Evaluation]) -> None:
        self._seen = _Note(shown=shown, void=void)
        if shown or void:
            write_file(self._note, self._seen.model_dump_json())

    def _read(self) -> list[Evaluation]:
        """All lines; what cannot be read is said once and left out."""
        found: list[Evaluation] = []
        for path in self._files:
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            except OSError as error:
                self._complain(f"{path}: {error.strerror}")
                continue
            for number, line in enumerate(lines, start=1):
                try:
                    found.append(Evaluation.model_validate_json(line))
                except ValidationError:
                    self._complain(f"{path} line {number} is no line of etude-validation/1")
        return found

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            logger.warning("validation.unreadable", extra={"error": text})


def validation_of(run: Run, config: TrainingConfig, source: Path, folder: Path) -> Validation:
    """The evaluations of a run, by its name or id.

    Args:
        run: what is trained.
        config: of the trainer.
        source: folder where evaluations are written (`ETUDE_VALIDATION_DIR`).
        folder: the trainer's own for this run.
    """
    files = [source / f"validation-{name}.jsonl" for name in (run.name, run.id)]
    every_steps = config.validation.every_steps
    return Validation(files, folder / "validation.json", every_steps=every_steps)
