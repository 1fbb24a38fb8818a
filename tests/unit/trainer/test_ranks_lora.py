"""Adapters on several ranks: one process's numbers, whoever saved and whoever resumes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from etude_trainer.checkpoint import Checkpoint, CheckpointState, CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.learner import Learner
from etude_trainer.parallel.crew import ALONE, Crew
from etude_trainer.parallel.team import Team
from etude_trainer.parity import Parity
from etude_trainer.references import become_policy
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support.rank_process import (
    Weights,
    batch_of,
    in_ranks,
    quiet,
    train,
    train_in_ranks,
    weights_of,
)

BASE = """
[objective]
kl_beta = 0.1
entropy_coef = 0.01
[optimizer]
lr = 1e-2
[batch]
micro_batch_tokens = 64
mini_batch_groups = 2
"""
LORA = "[lora]\nrank = 4\n"
MODES = {
    "recomputed": BASE + "[model]\ngradient_checkpointing = true\n" + LORA,
    "hsdp": BASE + "[parallel]\nreplicas = 2\n" + LORA + 'publish = "adapter"\n',
}
LOW = BASE + '[model]\nautocast = "bfloat16"\n' + LORA + 'base = "bfloat16"\n'


@pytest.mark.slow
def test_adapters_on_two_ranks_are_those_of_one_process(tiny_dir: Path, tmp_path: Path) -> None:
    texts = [*MODES.values(), LOW]
    by_rank = train_in_ranks(tiny_dir, texts, num_ranks=2, out=tmp_path)
    for number, text in enumerate(texts):
        want, want_metrics, want_probes = train(tiny_dir, text)
        is_exact = text is not LOW
        assert all(".lora_" in name for name in want)
        for results in by_rank:
            weights, metrics, probes = results[number]
            gap = max(float((weights[name] - want[name]).abs().max()) for name in want)
            assert gap <= (1e-6 if is_exact else 1e-2), (number, gap)
            assert probes == pytest.approx(want_probes, abs=1e-5 if is_exact else 3e-2)
            for ours, theirs in zip(metrics, want_metrics, strict=True):
                for name in ("loss", "grad_norm", "entropy", "kl_reference", "clip_share"):
                    tolerance = 1e-6 if is_exact else 3e-2
                    value = theirs.get(name, 0.0)
                    assert ours.get(name, 0.0) == pytest.approx(value, rel=1e-5, abs=tolerance)
        assert want_metrics[0]["grad_norm"] > 1e-3
        assert want_metrics[1]["kl_reference"] > 1e-5


def save(team: Team, folder: Path, version: int) -> Checkpoint:
    """As the loop does, on every rank; written by rank 0."""
    captured = team._capture(None)
    store = CheckpointStore(folder)
    state = CheckpointState(
        policy_version=version,
        lease_id=f"lease{version}",
        fence=1,
        weights_uri="/w",
        metrics={},
        reference=team.learner.memory.reference,
    )
    path = folder / f"v{version:06d}-lease{version}"
    if team.crew.leads:
        store.open()
        target = store.begin(state)
        assert target.path == path
        target.write(captured, Parity(version, [], []))
    return Checkpoint(path, state)


def step(learner: Learner, model_dir: Path, number: int) -> dict[str, float]:
    return learn(learner, batch_of(model_dir, number), step=number, progress=quiet)


def relay(model_dir: Path, folder: Path, crew: Crew) -> tuple[Weights, dict[str, float]]:
    """Two steps of all ranks, one of rank 0 by itself, one of all again: each from the last one's
    checkpoint; the reference is the adapter of the first."""
    config = parse_config(BASE + LORA)
    team = Team(build_learner(model_dir, config, device="cpu", crew=crew))
    step(team.learner, model_dir, 0)
    become_policy(team.learner, "v000001-lease1")
    save(team, folder, 1)
    step(team.learner, model_dir, 1)
    second = save(team, folder, 2)
    if crew.leads:
        alone = Team(build_learner(model_dir, config, device="cpu"))
        alone._load(second)
        step(alone.learner, model_dir, 2)
        save(alone, folder, 3)
    crew.gather("")  # the others wait
    state = second.state.model_copy(update={"policy_version": 3, "lease_id": "lease3"})
    team = Team(build_learner(model_dir, config, device="cpu", crew=crew))
    team._load(Checkpoint(folder / "v000003-lease3", state))
    metrics = step(team.learner, model_dir, 3)
    return weights_of(team.learner), metrics


@pytest.mark.slow
def test_any_number_of_ranks_goes_on_from_any_number_s_adapter(
    tiny_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    work = partial(relay, tiny_dir, tmp_path / "ranks")
    by_rank = in_ranks(work, num_ranks=2, out=tmp_path / "out")
    want, want_metrics = relay(tiny_dir, tmp_path / "alone", ALONE)
    assert want_metrics["kl_reference"] > 1e-6
    for weights, metrics in by_rank:
        assert max(float((weights[name] - want[name]).abs().max()) for name in want) <= 1e-6
        assert metrics["kl_reference"] == pytest.approx(want_metrics["kl_reference"], abs=1e-6)
    saved = torch.load(tmp_path / "ranks" / "v000002-lease2" / "training.pt", weights_only=True)
    assert len(saved["optimizer"]["state"]) == len(want)
    assert not (tmp_path / "ranks" / "v000002-lease2" / "shards").exists()
