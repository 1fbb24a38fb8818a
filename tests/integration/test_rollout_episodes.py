"""Episodes end to end: a policy that calls a calculator, a real sampler, one step of the trainer.

The policy was taught two tasks; sampled at temperature 1 it slips now and then, so that its groups
have something to learn from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue

from etude_client import AsyncEtudeClient
from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import (
    AckRequest,
    CurriculumConfig,
    DatasetCreate,
    FinishReason,
    Part,
    Report,
    Run,
    RunCreate,
    RunLimits,
    TaskCreate,
    TrainingBatchRequest,
)
from etude_rollout.prompting import ChatTokenizer, load_tokenizer
from etude_sampler.embedded import RunningServer
from etude_trainer.batch import decode_batch
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support import helped_lessons as helped
from support.replaying import replayed
from support.rollout_service import Observer, rolling_out
from support.sampler_app import query
from support.taught_policy import COLD
from support.tool_lessons import (
    SUM,
    answer_text,
    calculating_policy,
    call_text,
    pair_answer,
    pair_task,
    sum_task,
)

G = 12
"""Rollouts of a group."""
ROOTS = 3


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calculating_policy(tmp_path_factory.mktemp("policy") / "calculating")


async def create_run(
    client: AsyncEtudeClient, name: str, rows: Sequence[TaskCreate], *, scaffold: Part | None = None
) -> Run:
    """A training run on a few tasks, a group a batch."""
    created = await client.create_dataset(DatasetCreate(name=f"{name}-tasks"))
    lines = [row.model_dump_json().encode() for row in rows]
    receipt = await client.import_tasks(created.id, lines)
    assert receipt.errors == []
    return await client.create_run(
        RunCreate(
            name=name,
            dataset_id=created.id,
            curriculum=CurriculumConfig(
                preset="uniform", gate=Part(name="none"), scaffold=scaffold
            ),
            group_size=G,
            limits=RunLimits(training_batch_groups=1, cap_groups=2, max_group_bytes=1 << 20),
        )
    )


SETTINGS: dict[str, object] = {"max_new_tokens": 96, "temperature": 1.0, "tasks_per_batch": 1}


async def groups_of(
    client: AsyncEtudeClient, run: Run, policy_dir: Path, folder: Path, **settings: object
) -> list[tuple[GroupTrajectories, Report]]:
    """The first training batch of a run."""
    observer = Observer(client, run)
    changed = {**SETTINGS, "run": run.id, **settings}
    url = str(changed.pop("url"))
    async with rolling_out(policy_dir, url, folder, **changed):
        await observer.until(lambda counts: counts.num_ready_groups >= 1, "a group is ready")
        return await observer.train(1, "v1")


def parts(group: GroupTrajectories) -> list[slice]:
    return [slice(begin, end) for begin, end in pairwise(group.cu_seqlens.tolist())]


def runs_of(group: GroupTrajectories, part: slice, tokenizer: ChatTokenizer) -> list[str]:
    """What the policy said in one rollout, turn by turn."""
    found: list[list[int]] = [[]]
    for token, own in zip(group.tokens_T[part], group.loss_mask_T[part], strict=True):
        if own:
            found[-1].append(int(token))
        elif found[-1]:
            found.append([])
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in found if ids]


async def test_a_multi_turn_policy_is_trained_a_step(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """Tokens, masks and versions fit what the trainer's own model says of them."""
    run = await create_run(client, "steps", [sum_task(SUM)])
    trained = tmp_path / "trained"
    shutil.copytree(policy_dir, trained)
    observer = Observer(client, run)
    async with rolling_out(policy_dir, sampler_url, tmp_path, **SETTINGS, run=run.id):
        await observer.until(lambda counts: counts.num_ready_groups >= 1, "a group is ready")
        request = TrainingBatchRequest(trainer="t", wait_s=20.0)
        frame = await client.lease_training_batch(run.id, request)
        learner = build_learner(trained, parse_config("[optimizer]\nlr = 1e-3\n"), device="cpu")
        bodies = list(frame.bodies)
        batch = decode_batch(frame.manifest, bodies, vocab_size=learner.policy.vocab_size)
        assert batch.refused == ()
        before = [p.detach().clone() for p in learner.policy.parameters()]
        metrics = learn(learner, batch.groups, step=0, progress=lambda done, total: None)
    lease = frame.manifest.lease
    assert lease is not None
    ack = AckRequest(fence=lease.fence, policy_version=1, weights_uri="v1")
    await client.ack_training_batch(lease.id, ack)
    (group,) = batch.groups
    assert len(set(group.rewards_G)) > 1, "nothing to learn from"
    assert any(group.successes_G)
    assert metrics["logprob_gap_mean"] < 1e-5
    after = list(learner.policy.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    tokenizer = load_tokenizer(policy_dir)
    for sequence, right in zip(group.sequences, group.successes_G, strict=True):
        assert sequence is not None
        own = sequence.tokens_T[sequence.trained_T].tolist()
        if right:
            text = tokenizer.decode(own, skip_special_tokens=True)
            assert text == call_text(SUM) + answer_text("7")


async def test_hints_stand_in_the_first_prompt_of_an_episode(
    client: AsyncEtudeClient, sampler_url: str, tmp_path: Path
) -> None:
    """Served by the sampler, reported by level, trained under the prompt that was seen."""
    policy_dir = helped.helped_policy(tmp_path / "helped")
    knobs: dict[str, JsonValue] = {"start_version": 0, "heading": helped.HEADING}
    scaffold = Part(name="hints", knobs=knobs)
    run = await create_run(client, "helped", [helped.helped_task()], scaffold=scaffold)
    ((group, report),) = await groups_of(
        client, run, policy_dir, tmp_path, url=sampler_url, temperature=COLD
    )
    levels = [(a.scaffold_kind, a.scaffold_level, a.merged) for a in report.groups[0].attempts]
    assert levels == [
        ("none", 0, False),
        ("hints", 1, False),
        ("hints", 5, False),
        ("hints", 5, True),
    ]
    (right,) = (j for j, one in enumerate(report.groups[0].attempts[-1].outcomes) if one.success)
    tokenizer = load_tokenizer(policy_dir)
    told = [
        tokenizer.decode(group.tokens_T[part].tolist(), skip_special_tokens=False)
        for part in parts(group)
    ]
    assert [helped.hint_text("call it") in text for text in told] == [j == right for j in range(G)]
    assert runs_of(group, parts(group)[right], tokenizer)[-1] == answer_text(helped.VALUE)
    view = await client.get_task(run.id, report.groups[0].task_id)
    seen = {(one.scaffold_kind, one.scaffold_level): one for one in view.statistics}
    assert seen["none", 0].num_successes == 0, "help moves nothing that is bare"
    assert seen["hints", 5].success_ema == 1


async def test_branches_share_their_beginning_and_count_as_their_roots(
    client: AsyncEtudeClient,
    sampler_url: str,
    database_url: str,
    valkey: RunningServer,
    *,
    policy_dir: Path,
    tmp_path: Path,
) -> None:
    """ARPO: clones begin where their parent was after a tool's answer, and end on their own."""
    run = await create_run(client, "branches", [sum_task(SUM)])
    ((group, report),) = await groups_of(
        client, run, policy_dir, tmp_path, url=sampler_url, branch_roots=ROOTS, temperature=1.1
    )
    attempt = report.groups[0].attempts[-1]
    assert len(attempt.outcomes) == G, "the budget is used up"
    assert group.parent_G is not None
    roots = int((group.parent_G < 0).sum())
    assert attempt.num_roots == roots
    assert ROOTS <= roots < G
    tokenizer = load_tokenizer(policy_dir)
    there = parts(group)
    num_apart = 0
    for child, parent in enumerate(group.parent_G.tolist()):
        if parent < 0:
            continue
        assert parent < child
        mine, theirs = group.tokens_T[there[child]], group.tokens_T[there[parent]]
        least = min(len(mine), len(theirs))
        differs = np.flatnonzero(mine[:least] != theirs[:least])
        shared = int(differs[0]) if len(differs) else least
        num_apart += bool(len(differs))
        answered = tokenizer.decode(mine[:shared].tolist(), skip_special_tokens=False)
        assert "<|im_start|>tool\n" in answered, "a branch begins after a tool's answer"
        versions = group.versions_T[there[child]][:shared]
        assert np.array_equal(versions, group.versions_T[there[parent]][:shared])
        logprobs = group.logprobs_T[there[child]][:shared]
        assert np.array_equal(logprobs, group.logprobs_T[there[parent]][:shared])
    assert num_apart > 0, "branches that all say the same show nothing"
    (counts,) = query(
        database_url,
        "SELECT s + f FROM task_statistics WHERE run_id = %s AND kind = 'none'",
        run.id,
    )
    folded = query(database_url, "SELECT outcomes FROM ledger WHERE run_id = %s", run.id)
    replay = await replayed(database_url, run.id, redis_url=valkey.url)
    assert replay.ledger.first_fault is None, "replay folds the same counts"
    assert counts == (pytest.approx(_decayed([row[0]["num_roots"] for row in folded])),)  # type: ignore[index]


def _decayed(roots: list[int]) -> float:
    """s + f after groups with so many roots, at the estimator's decay."""
    total = 0.0
    for num in roots:
        total = 0.9 * total + num
    return total


async def test_two_calls_of_a_turn_run_together(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """RAG-R1: one JSON text holds the results, and the policy reads both."""
    run = await create_run(client, "pairs", [pair_task()])
    ((group, report),) = await groups_of(
        client, run, policy_dir, tmp_path, url=sampler_url, parallel_tools=True, temperature=0.5
    )
    outcomes = report.groups[0].attempts[-1].outcomes
    right = [j for j, outcome in enumerate(outcomes) if outcome.success]
    assert right, "the policy was taught this"
    assert {outcomes[j].finish_reason for j in right} == {FinishReason.STOP}
    assert {outcomes[j].num_turns for j in right} == {2}
    tokenizer = load_tokenizer(policy_dir)
    whole = group.tokens_T[parts(group)[right[0]]].tolist()
    text = tokenizer.decode(whole, skip_special_tokens=False)
    told = json.loads(text.partition("<|im_start|>tool\n")[2].partition("<|im_end|>")[0])
    assert " ".join(one["result"] for one in told) == pair_answer()
    said = runs_of(group, parts(group)[right[0]], tokenizer)
    assert said[1] == answer_text(pair_answer())
