"""prime-rl's sampler, NeMo RL's data set and slime's source, called as their trainers call them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from etude_client import EtudeClient
from etude_client.adapters.prime_rl import CurriculumSampler
from etude_proto.v1 import CurriculumView
from support.trainer_rows import (
    PROMPTS,
    NemoModule,
    NemoPolicy,
    NemoTable,
    Player,
    Sample,
    SlimeArguments,
    Status,
    VfEpisode,
    VfTask,
    VfTrace,
)
from support.tree import ROOT

GROUP = 4


def load(path: str) -> ModuleType:
    """A documented file, as a module."""
    spec = importlib.util.spec_from_file_location("documented", ROOT / "docs" / "examples" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def view(sampler_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What the sampler has counted."""
    monkeypatch.setenv("ETUDE_SAMPLER_URL", sampler_url)
    with EtudeClient(sampler_url) as client:

        def now() -> CurriculumView:
            (run,) = client.iter_runs()
            return client.get_curriculum(run.id)

        yield now


def slime_source(monkeypatch: pytest.MonkeyPatch, args: SlimeArguments) -> tuple[Any, ModuleType]:
    """The documented source over slime's prompts; slime itself is not here."""
    prompts = [Sample(prompt=prompt, label=prompt) for prompt in PROMPTS]
    theirs: Any = ModuleType("slime.rollout.data_source")
    theirs.RolloutDataSource = lambda _: SimpleNamespace(dataset=SimpleNamespace(samples=prompts))
    monkeypatch.setitem(sys.modules, "slime.rollout.data_source", theirs)
    module = load("slime/etude_source.py")
    return module.DataSource(args), module


def slime_rollout(
    source: Any,  # noqa: ANN401
    module: ModuleType,
    args: SlimeArguments,
    player: Player,
) -> tuple[int, int]:
    """One `generate_rollout`: over-sampled, filtered, the rest aborted; finished and trained."""
    pending: list[list[Sample]] = []
    finished: list[list[Sample]] = []
    kept: list[list[Sample]] = []
    while len(kept) < args.rollout_batch_size:
        while len(pending) + len(kept) < args.rollout_batch_size:
            pending += source.get_samples(args.over_sampling_batch_size)
        group = pending.pop(0)
        for sample in group:
            sample.reward, sample.status = player.reward(), Status.COMPLETED
            sample.response_length = 3
        finished.append(group)
        if len({sample.reward for sample in group}) > 1:
            kept.append(group)
    module.report_groups(args, finished, source.get_samples)
    if args.partial_rollout:
        for group in pending:
            group[0].status = Status.ABORTED
        source.add_samples(pending[:1])
    return len(finished), len(pending)


@pytest.mark.parametrize("partial", [False, True])
def test_slime_goes_on_where_it_was_saved(
    view: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    partial: bool,
) -> None:
    args = SlimeArguments(str(tmp_path), None, partial_rollout=partial)
    source, module = slime_source(monkeypatch, args)
    source.load(-1)
    player = Player()
    counted = []
    for rollout_id in range(3):
        counted.append(slime_rollout(source, module, args, player)[0])
        if rollout_id == 1:
            source.save(rollout_id)
            assert source.curriculum.flush(30)
            assert view().policy_version == 2
    assert len(source) == len(PROMPTS)
    source.curriculum.flush(30)
    assert view().num_groups_applied == sum(counted)

    # Killed after it generated rollout 2; slime resumes it from what was saved after rollout 1.
    again, module = slime_source(monkeypatch, SlimeArguments(str(tmp_path), str(tmp_path)))
    again.load(1)
    first = again.get_samples(1)
    assert [sample.index for sample in first[0]] == list(range(GROUP))
    assert view().policy_version == 2
    assert view().num_groups_applied == sum(counted[:2])
    again.close()
    assert view().counts.num_prompt_leases == 0
    with pytest.raises(ValueError, match="rollout 7 was saved without a curriculum"):
        again.load(7)
    fresh, module = slime_source(monkeypatch, args)
    fresh.load(-1)
    with pytest.raises(ValueError, match="at step 2, and the trainer at 0"):
        fresh.get_samples(1)
    source.close()
    fresh.close()


def nemo_loader(dataset: Any) -> Any:  # noqa: ANN401
    """As NeMo RL's `setup` builds it."""

    def collate(data: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: [one[name] for one in data] for name in ("idx", "extra_env_info")}

    return StatefulDataLoader(
        dataset, batch_size=4, shuffle=False, collate_fn=collate, drop_last=True, num_workers=0
    )


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_nemo_rl_goes_on_where_it_was_saved(view: Any) -> None:  # noqa: ANN401
    module = load("nemo_rl/curriculum.py")
    grpo = SimpleNamespace(
        num_prompts_per_step=4, batch_multiplier=1.0, num_generations_per_prompt=GROUP
    )
    config = SimpleNamespace(grpo=grpo)
    player = Player()
    num_groups = 0

    def train(dataset: Any, *, steps: int, state: Any = None) -> Any:  # noqa: ANN401
        nonlocal num_groups
        loader, policy, hooks = nemo_loader(dataset), NemoPolicy(), NemoModule()
        if state is not None:
            loader.load_state_dict(state)
        sys.modules["nemo_rl.algorithms.grpo"] = hooks  # type: ignore[assignment]
        try:
            module.follow(dataset, policy, SimpleNamespace(total_steps=2 if state else 0))
        finally:
            del sys.modules["nemo_rl.algorithms.grpo"]
        saved = None
        for made, batch in enumerate(loader, start=1):
            rows = [row for row in batch["idx"] for _ in range(GROUP)]
            assert [PROMPTS[row] for row in batch["idx"]]
            assert [info["answer"] for info in batch["extra_env_info"]] == batch["idx"]
            rewards = torch.tensor([player.reward() for _ in rows])
            scaled: Any = hooks.scale_rewards({"idx": rows, "total_reward": rewards}, {})
            assert scaled["total_reward"].max() == 10 * rewards.max()
            num_groups += len(batch["idx"])
            policy.train(scaled)
            if made == 2 and state is None:
                saved = loader.state_dict()
                num_groups_saved.append(num_groups)
            if made == steps:
                return saved
        return saved

    num_groups_saved: list[int] = []
    first = module.practise(NemoTable(), config)
    state = train(first, steps=3)
    assert first.curriculum.flush(30)
    assert view().policy_version == 3
    num_groups = num_groups_saved[0]
    second = module.practise(NemoTable(), config)
    train(second, steps=100, state=state)  # to the end of the epoch, which began two steps ago
    assert second.curriculum.flush(30)
    assert view().policy_version == len(PROMPTS) // 4
    assert view().num_groups_applied == num_groups == len(PROMPTS)
    third = module.practise(NemoTable(), config)
    with pytest.raises(ValueError, match="at step 6, and the trainer at 0"):
        train(third, steps=1)
    for dataset in (first, second, third):
        dataset.close()


def test_prime_rl_goes_on_where_it_was_saved(view: Any) -> None:  # noqa: ANN401
    tasks = [VfTask(f"task-{number}") for number in range(len(PROMPTS))]
    for task, prompt in zip(tasks, PROMPTS, strict=True):
        task.data = SimpleNamespace(prompt=prompt)  # type: ignore[attr-defined]
    env = SimpleNamespace(name="toy", tasks=tasks, config=SimpleNamespace(group_size=GROUP))
    config = SimpleNamespace(max_inflight_episodes=32, max_off_policy_steps=1)
    module = load("prime_rl/curriculum.py")

    def practised() -> CurriculumSampler[VfTask]:
        source = SimpleNamespace(envs=[env], curricula={"toy": SimpleNamespace(sampler=None)})
        observers: list[Any] = []
        module.practise(source, observers, config)
        (made,) = observers
        assert source.curricula["toy"].sampler is made
        sampler: CurriculumSampler[VfTask] = made
        return sampler

    def finished(task: VfTask, *, ok: bool = True) -> list[VfEpisode]:
        return [
            VfEpisode(task, [VfTrace(player.reward(), {"speed": 0.5})], ok=ok) for _ in range(GROUP)
        ]

    player, first = Player(), practised()
    flying = [next(first) for _ in range(6)]
    assert len({task.key for task in flying}) == 6
    for task in flying[:3]:
        first.observe(finished(task))
    first.observe(finished(flying[3], ok=False))  # failed: reported, and no evidence
    asyncio.run(first.on_new_version(2))  # the watcher passed over version 1
    assert first.curriculum.flush(30)
    state = json.loads(json.dumps(first.state_dict()))
    assert view().policy_version == 2
    assert (
        view().num_rollouts_applied == 3 * GROUP if hasattr(view(), "num_rollouts_applied") else 1
    )
    # Drawn two versions ago, and cancelled by prime-rl without a word: given back.
    assert first.metrics() == {"policy_version": 2.0, "held": 0.0, "reported": 4.0, "dropped": 2.0}
    first.observe(finished(next(first)))
    late = next(first)
    asyncio.run(first.on_new_version(3))

    second = practised()
    second.load_state_dict(state)
    assert view().policy_version == second.curriculum.policy_version == 2
    assert view().num_groups_applied == 3  # failures are no evidence
    second.observe(finished(late))  # replayed from before: nobody holds it
    second.observe(finished(next(second)))
    asyncio.run(second.on_new_version(3))
    assert second.curriculum.flush(30)
    assert view().num_groups_applied == 4
    for sampler in (first, second):
        sampler.curriculum.close()
    assert view().counts.num_prompt_leases == 0
