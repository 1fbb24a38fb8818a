"""Demonstrations end to end: a worker with a real model serves hard tasks with what came along.

A policy with random weights is always wrong: every task becomes hard, and the only right answers
are those that the tasks brought.
"""

from __future__ import annotations

import json
from pathlib import Path

from etude_client import AsyncEtudeClient
from etude_proto.v1 import (
    Aids,
    CallsReference,
    CurriculumConfig,
    DatasetCreate,
    Part,
    PolicyVersionRequest,
    RunCreate,
    RunLimits,
    RunMode,
    TaskCreate,
)
from etude_rollout.models.tiny_tasks import dataset
from support.rollout_service import Observer, rolling_out
from support.sampler_app import query
from support.waiting import wait_until

NUM_TASKS = 6
FAILS = 4
"""Rollouts that make a task hard here: one group."""


def answered(task: TaskCreate, *, wrong: bool = False) -> TaskCreate:
    """A task with a right answer as its demonstration, or with a wrong one."""
    assert isinstance(task.reference, CallsReference)
    calls = [
        {"name": "nothing" if wrong else call.name, "parameters": call.parameters}
        for call in task.reference.calls
    ]
    lines = "\n".join(json.dumps(call) for call in calls)
    answer = f"<think> so </think>\n<tool_call>\n{lines}\n</tool_call>"
    return task.model_copy(update={"aids": Aids(demonstration=answer)})


async def test_a_worker_shows_what_is_right_and_reports_what_it_showed(
    client: AsyncEtudeClient,
    sampler_url: str,
    database_url: str,
    policy_dir: Path,
    tmp_path: Path,
) -> None:
    """Of two answers that came along one is wrong: hard tasks see a single demonstration."""
    rows = [
        row
        for row in dataset(num_train=60, num_held_out=0)
        if isinstance(row.reference, CallsReference)
    ][:NUM_TASKS]
    rows[0], rows[1] = answered(rows[0]), answered(rows[1], wrong=True)
    created = await client.create_dataset(DatasetCreate(name="tasks"))
    await client.import_tasks(created.id, [row.model_dump_json().encode() for row in rows])
    hard = Part.model_validate(
        {"name": "multi_round", "knobs": {"hard_after": FAILS, "probe_from": 2}}
    )
    run = await client.create_run(
        RunCreate(
            name="guided",
            dataset_id=created.id,
            curriculum=CurriculumConfig(preset="toolexpander", hard=hard),
            mode=RunMode.CURRICULUM_ONLY,
            group_size=FAILS,
            limits=RunLimits(training_batch_groups=1, max_group_bytes=1 << 20),
        )
    )
    observer, version = Observer(client, run), 0

    def guided() -> list[tuple[object, ...]]:
        return query(
            database_url,
            "SELECT DISTINCT ordinal, level FROM ledger WHERE run_id = %s AND kind = 'few_shot'",
            run.id,
        )

    async def seen_others() -> bool:
        nonlocal version
        if await observer.num_applied() >= NUM_TASKS * (version + 1):
            version += 1
            body = PolicyVersionRequest(policy_version=version)
            await client.announce_policy_version(run.id, body)
        return any(ordinal != 0 for ordinal, _ in guided())

    settings = {"run": run.id, "max_new_tokens": 4, "max_prompt_tokens": 4000}
    async with rolling_out(policy_dir, sampler_url, tmp_path, **settings):
        await wait_until(seen_others, what="a hard task is guided", timeout_s=60.0)
    found = guided()
    assert {level for _, level in found} == {1}, "two were asked for, one is right"
    assert 0 not in {ordinal for ordinal, _ in found}, (
        "the only right answer is its own: it is served bare"
    )
    counted = "SELECT sum(n)::int FROM task_statistics WHERE run_id = %s AND kind = 'none'"
    bare = "SELECT count(*)::int FROM ledger WHERE run_id = %s AND kind = 'none'"
    assert query(database_url, counted, run.id) == query(database_url, bare, run.id)
