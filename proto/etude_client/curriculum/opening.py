"""Finding a run by name, or making it from tasks.

Called once, by rank 0, before anything is drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
from dataclasses import dataclass

from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
)

from ..errors import RunNotFound
from ..sync_client import EtudeClient
from .options import Chosen
from .rows import Rows

LIMITS = RunLimits(
    cap_groups=16384, max_batch_tasks=4096, leases_per_worker=1024, checkpoint_keep_last=100
)
"""Limits of runs that are made here: one trainer, whose batches may be large and whose model
checkpoints may be many (our choice)."""


CHUNK_TASKS = 2000
"""Tasks sent in one call: a lost connection costs no more than that (our choice)."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to be made unless there is one of this name."""

    name: str
    """Of the run, and of its dataset."""
    curriculum: CurriculumConfig
    group_size: int
    seed: int


def opened(chosen: Chosen, name: str, plan: RunPlan | None, rows: Rows | None) -> Run:
    """The run of a name, or of a plan over rows.

    Raises:
        ValueError: there is none, or it is not one for a trainer of the user's own.
    """
    with EtudeClient(chosen.url, api_key=chosen.api_key) as client:
        if plan is not None and rows is not None:
            run = _planned(client, plan, rows)
        else:
            run = find_run(client, name)
    if run.mode is not RunMode.CURRICULUM_ONLY:
        raise ValueError(
            f"the run {run.name!r} is trained by Etude's trainer (mode {run.mode}): make one with "
            "Curriculum.create(...) or `etude runs create --curriculum-only`"
        )
    return run


def find_run(client: EtudeClient, name: str) -> Run:
    """The run of a name or an id.

    Raises:
        ValueError: there is none, or there are several of that name.
    """
    if name.startswith("run_"):
        with contextlib.suppress(RunNotFound):
            return client.get_run(name)
    named = _named(client, name)
    if not named:
        raise ValueError(
            f"{client.url} has no run named {name!r}; make it with Curriculum.create(...) or "
            "`etude runs create`"
        )
    return _only(client, named)


def _named(client: EtudeClient, name: str) -> list[Run]:
    return [run for run in client.iter_runs() if run.name == name]


def _only(client: EtudeClient, named: list[Run]) -> Run:
    if len(named) > 1:
        ids = ", ".join(run.id for run in named)
        raise ValueError(
            f"{client.url} has several runs named {named[0].name!r}: give one of {ids}"
        )
    return named[0]


def _planned(client: EtudeClient, plan: RunPlan, rows: Rows) -> Run:
    """The run of the plan, made if there is none.

    Raises:
        ValueError: a run of that name has another number of tasks, group size, preset or mode; a
            dataset of that name has other tasks; or a task was refused.
    """
    named = _named(client, plan.name)
    if named:
        return _fitting(client, _only(client, named), plan, rows)
    dataset = client.create_dataset(DatasetCreate(name=plan.name))
    _import(client, dataset.id, rows)
    num_there = client.get_dataset(dataset.id).num_tasks
    if num_there != rows.num_different:
        raise ValueError(
            f"the dataset {plan.name!r} holds {num_there} tasks, and these rows make "
            f"{rows.num_different}: the others were imported before. Give another name, or delete "
            f"it with `etude datasets delete {shlex.quote(plan.name)}`"
        )
    request = RunCreate(
        name=plan.name,
        dataset_id=dataset.id,
        curriculum=plan.curriculum,
        mode=RunMode.CURRICULUM_ONLY,
        group_size=plan.group_size,
        seed=plan.seed,
        limits=LIMITS,
    )
    return _made_once(client, request)


def _made_once(client: EtudeClient, request: RunCreate) -> Run:
    """The run of a request: one and the same for all that ask for it at once."""
    state = request.model_dump_json()
    while True:
        digest = hashlib.sha256(state.encode()).hexdigest()
        run = client.create_run(request, idempotency_key=f"curriculum-{digest}")
        try:
            return client.get_run(run.id)
        except RunNotFound:  # made with this key before, and deleted since
            state += run.id


def _import(client: EtudeClient, dataset_id: str, rows: Rows) -> None:
    """Send the rows in pieces; a terminal shows how far a long import is.

    Raises:
        ValueError: a task was refused; what was sent before it stays, and is not sent twice.
    """
    from ..sources.progress import ProgressLine

    shown = ProgressLine("importing", len(rows))
    try:
        for begin in range(0, len(rows), CHUNK_TASKS):
            receipt = client.import_tasks(dataset_id, rows.lines[begin : begin + CHUNK_TASKS])
            if receipt.num_rejected:
                first = receipt.errors[0]
                raise ValueError(
                    f"{receipt.num_rejected} of {receipt.num_lines} tasks were refused; the first "
                    f"is row {begin + first.line - 1}: {first.pointer or 'the row'}: {first.detail}"
                )
            shown(begin + receipt.num_lines)
    finally:
        shown.close()


def _fitting(client: EtudeClient, run: Run, plan: RunPlan, rows: Rows) -> Run:
    wanted = {
        "num_tasks": (run.num_tasks, rows.num_drawable),
        "group_size": (run.group_size, plan.group_size),
        "curriculum": (run.curriculum, plan.curriculum),
        "mode": (run.mode, RunMode.CURRICULUM_ONLY),
    }
    for field, (there, here) in wanted.items():
        if there != here:
            raise ValueError(
                f"the run {run.name!r} is there already with {field} {there!r}, not {here!r}: "
                "give another name, or leave it as it is with Curriculum(run=...)"
            )
    others = [task.id for task in client.list_tasks(run.id).items if rows.index(task.id) is None]
    if others:
        raise ValueError(
            f"the run {run.name!r} is there already with other tasks than these rows make, such as "
            f"{others[0]}: give another name, or leave it as it is with Curriculum(run=...)"
        )
    return run
