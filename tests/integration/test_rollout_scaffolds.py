"""Every scaffold end to end: served over HTTP, performed by a worker with a real model, trained on.

One sampler and one policy for all tests; the policy was taught to fail the tasks bare and to solve
them with help (`support.scaffold_lessons`). Each test has a run of its own over one of the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from etude_client import AsyncEtudeClient, TrainingFrame
from etude_proto.tensors import GroupTrajectories, decode_group
from etude_proto.v1 import (
    Attempt,
    CurriculumConfig,
    DatasetCreate,
    Part,
    Run,
    RunCreate,
    RunLimits,
    TaskStatistics,
    TrainingBatchRequest,
)
from etude_sampler.embedded import RunningServer
from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support import scaffold_lessons as lessons
from support.live_sampler import live_sampler
from support.rollout_service import Observer, rolling_out
from support.servers import Servers
from support.taught_policy import COLD

G = 4
VOCABULARY = 768
ROWS = [
    lessons.HINTED,
    lessons.PREFIXED,
    lessons.REFLECTED,
    lessons.EXEMPLIFIED,
    *lessons.NOISY,
]


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lessons.make_policy(tmp_path_factory.mktemp("taught") / "policy")


@pytest.fixture(scope="module")
def sampler_url(servers: Servers, valkey: RunningServer) -> Iterator[str]:
    with servers.database() as database_url, live_sampler(database_url, valkey.url) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run's first ready group looked like."""

    frame: TrainingFrame
    attempts: list[Attempt]
    cargo: GroupTrajectories
    statistics: dict[tuple[str, int], TaskStatistics]
    """Of its task, by scaffold kind and level."""

    def groups(self) -> tuple[Group, ...]:
        """The group as the trainer takes it."""
        batch = decode_batch(self.frame.manifest, self.frame.bodies, vocab_size=VOCABULARY)
        assert not batch.refused
        return batch.groups


async def create(client: AsyncEtudeClient, source: str, scaffold: str, **knobs: object) -> Run:
    """A run over the tasks of one source, with one scaffold."""
    dataset = await client.create_dataset(DatasetCreate(name="lessons"))
    await client.import_tasks(dataset.id, [row.model_dump_json().encode() for row in ROWS])
    part = Part.model_validate({"name": scaffold, "knobs": knobs})
    return await client.create_run(
        RunCreate(
            name=scaffold,
            dataset_id=dataset.id,
            sources=[source],
            # Sampled coldly, a policy is all right or all wrong.
            curriculum=CurriculumConfig(preset="uniform", gate=Part(name="none"), scaffold=part),
            group_size=G,
            limits=RunLimits(training_batch_groups=1, max_group_bytes=1 << 20, cap_groups=2),
        )
    )


async def see(client: AsyncEtudeClient, run: Run, url: str, policy_dir: Path, folder: Path) -> Seen:
    """Let a worker roll out until a group is ready, and lease it as a trainer does."""
    settings = {"run": run.id, "temperature": COLD, "max_new_tokens": 112, "tasks_per_batch": 1}
    observer = Observer(client, run)
    async with rolling_out(policy_dir, url, folder, **settings):
        await observer.until(lambda counts: counts.num_ready_groups >= 1, "a group is ready")
    frame = await client.lease_training_batch(run.id, TrainingBatchRequest(trainer="t"))
    cargo, report = decode_group(frame.bodies[0])
    view = await client.get_task(run.id, frame.manifest.groups[0].task_id)
    statistics = {(one.scaffold_kind, one.scaffold_level): one for one in view.statistics}
    return Seen(frame, report.groups[0].attempts, cargo, statistics)


def shown(policy_dir: Path, cargo: GroupTrajectories, number: int) -> str:
    """The prompt of a trajectory."""
    part = slice(int(cargo.cu_seqlens[number]), int(cargo.cu_seqlens[number + 1]))
    tokens = cargo.tokens_T[part][cargo.loss_mask_T[part] == 0]
    text = AutoTokenizer.from_pretrained(policy_dir).decode(tokens)
    assert isinstance(text, str)
    return text


def levels(seen: Seen) -> list[tuple[str, int, bool]]:
    return [(a.scaffold_kind, a.scaffold_level, a.merged) for a in seen.attempts]


def gap_to_trainer(policy_dir: Path, seen: Seen) -> float:
    """Mean difference between the trainer's and the worker's log-probabilities, in nats."""
    config = parse_config(
        f"[optimizer]\nlr = 1e-12\n[model]\ntemperature = {COLD}\n[batch]\nshare_prompts = true\n"
    )
    learner = build_learner(policy_dir, config, device="cpu")
    metrics = learn(learner, seen.groups(), step=0, progress=lambda done, total: None)
    assert metrics["num_sequences"] == seen.cargo.num_rollouts
    return metrics["logprob_gap_mean"]


async def test_hint_tiers(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """The least hint that helps replaces one failure; the next climb begins two levels below."""
    run = await create(client, "hints", "hints", start_version=0, heading=lessons.HEADING)
    seen = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(seen)[:5] == [
        ("none", 0, False),
        ("hints", 1, False),
        ("hints", 5, False),
        ("hints", 6, False),
        ("hints", 6, True),
    ]
    assert seen.statistics["none", 0].num_successes == 0
    assert seen.statistics["none", 0].num_failures >= G
    assert seen.statistics["hints", 6].success_ema == 1
    assert seen.statistics["hints", 1].success_ema == 0
    (group,) = seen.groups()
    assert sorted(group.successes_G) == [False, False, False, True]
    hinted = [
        lessons.hint_text("tools", "weather") in shown(policy_dir, seen.cargo, j) for j in range(G)
    ]
    assert hinted == list(group.successes_G), "a hinted success has its own prompt"
    assert gap_to_trainer(policy_dir, seen) < 1e-3, "and is trained under it"
    again = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(again) == [
        ("none", 0, False),
        ("hints", 5, False),
        ("hints", 6, False),
        ("hints", 6, True),
    ], "two levels below the last success is level 4"


async def test_prefixes(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """The first prefix with a success replaces the whole group, under its own prompt."""
    run = await create(client, "prefix", "prefix", start_version=0)
    seen = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(seen) == [("none", 0, False), ("prefix", 1, False), ("prefix", 2, False)]
    assert seen.statistics["none", 0].num_successes == 0
    assert seen.statistics["prefix", 1].success_ema == 0
    assert seen.statistics["prefix", 2].success_ema == 1
    (group,) = seen.groups()
    assert group.successes_G == (True,) * G
    assert shown(policy_dir, seen.cargo, 0).endswith(lessons.SOLUTION[: lessons.CUTS[1]])
    assert gap_to_trainer(policy_dir, seen) < 1e-3


async def test_reflect_turn(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """Second attempts earn their reward, reflections what they changed; each with its like."""
    run = await create(client, "reflect", "reflect", ask=lessons.ASK, again=lessons.AGAIN)
    seen = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(seen) == [("none", 0, False), ("reflect", 1, False), ("reflect", 1, True)]
    assert seen.statistics["none", 0].num_successes == 0
    assert seen.statistics["reflect", 1].success_ema == 1
    planners, reflectors = seen.groups()
    assert planners.rewards_G == (4.0,) * G
    assert reflectors.rewards_G == (2.0,) * G, "R(second) - R(first) = 4 - 2"
    assert lessons.SORRY in shown(policy_dir, seen.cargo, 0)
    assert lessons.SORRY not in shown(policy_dir, seen.cargo, G)
    assert gap_to_trainer(policy_dir, seen) < 1e-3


async def test_noise_documents(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """One of two documents is another task's; the group is an attempt of its own kind."""
    run = await create(client, "noise", "noise_docs", rho=1.0)
    seen = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(seen) == [("noise_docs", 1, False)]
    assert set(seen.statistics) == {("noise_docs", 1)}, "nothing moved the bare statistics"
    task = next(
        row
        for row in lessons.NOISY
        if row.messages[0].content.endswith(
            shown(policy_dir, seen.cargo, 0).partition("? ")[2].partition("<|")[0]
        )
    )
    assert task.aids is not None
    others = [
        d for row in lessons.NOISY if row is not task and row.aids for d in row.aids.documents
    ]
    prompt = shown(policy_dir, seen.cargo, 0)
    assert sum(document in prompt for document in task.aids.documents) == 1
    assert sum(document in prompt for document in others) == 1
    group = (await client.get_task(run.id, seen.frame.manifest.groups[0].task_id)).task
    assert group.messages[0].content not in prompt


async def test_self_exemplifying_thinking(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """Valid examples earn .01 of shaping; the statistics see the rule reward of a bare group."""
    run = await create(client, "exemplify", "self_example", ask=lessons.WANTED)
    seen = await see(client, run, sampler_url, policy_dir, tmp_path)
    assert levels(seen) == [("none", 0, False)]
    assert {(o.reward, o.shaping) for o in seen.attempts[0].outcomes} == {(4.0, 0.01)}
    bare = seen.statistics["none", 0]
    assert (bare.success_ema, bare.reward_mean) == (1, 4.0)
    (group,) = seen.groups()
    assert group.rewards_G == (4.01,) * G
    assert group.rule_rewards_G == (4.0,) * G
    assert lessons.WANTED in shown(policy_dir, seen.cargo, 0)
    assert gap_to_trainer(policy_dir, seen) < 1e-3
