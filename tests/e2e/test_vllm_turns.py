"""Episodes on real vLLM: a policy that calls a calculator, branches, and tokens that fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import RewardSpec
from etude_rollout.engines import Sampling
from etude_rollout.finished import FinishedGroup
from etude_rollout.kit import EpisodeOptions, Kit, Terms
from etude_rollout.tools.opening import Environments
from etude_rollout.turns.options import Branching, TurnOptions
from etude_rollout.turns.tabling import TurnEpisodes
from support.rollout_parts import publish
from support.tool_lessons import SUM, calculating_policy, prompter_of, sum_item
from support.vllm_bench import VllmBench

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(420)]
VERSION = 7
G, ROOTS = 8, 3


async def play(bench: VllmBench, policy_dir: Path) -> FinishedGroup:
    environments = Environments()
    options = EpisodeOptions(Sampling(96, temperature=1.0), 0, 900, 120.0)
    kit = Kit(bench.engine, prompter_of(policy_dir), options)
    episodes = TurnEpisodes(kit, environments, TurnOptions(branching=Branching(ROOTS)))
    terms = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=VERSION)
    try:
        return await episodes.run(sum_item(SUM, num_rollouts=G), terms)
    finally:
        await environments.close()


async def gaps(bench: VllmBench, group: GroupTrajectories) -> list[float]:
    """How far the log-probabilities of sampled tokens are from what the engine says of the whole
    sequence, read at once: nothing but the tokens that it saw can give the same."""
    found = []
    for begin, end in zip(group.cu_seqlens[:-1], group.cu_seqlens[1:], strict=True):
        (scored,) = await bench.engine.score_logprobs([group.tokens_T[begin:end].tolist()])
        sampled = np.flatnonzero(group.loss_mask_T[begin:end])
        ours = group.logprobs_T[begin:end][sampled]
        found += np.abs(np.array(scored)[sampled - 1] - ours).tolist()
    return found


def test_an_episode_is_the_tokens_that_vllm_saw(bench: VllmBench, tmp_path: Path) -> None:
    policy_dir = calculating_policy(tmp_path / "calculating")
    weights = publish(policy_dir, bench.root / "v000007-lease_sums", version=VERSION)
    bench.run(bench.engine.load_weights(weights, version=VERSION))
    finished = bench.run(play(bench, policy_dir))
    (attempt,) = finished.report.attempts
    assert len(attempt.outcomes) == G
    assert any(outcome.success and outcome.num_turns == 2 for outcome in attempt.outcomes)
    group = finished.trajectories
    assert group is not None
    assert group.parent_G is not None, "some rollout was a branch"
    assert attempt.num_roots == int((group.parent_G < 0).sum()) >= ROOTS
    sampled = group.loss_mask_T == 1
    assert set(group.versions_T[sampled].tolist()) == {VERSION}
    assert set(group.versions_T[~sampled].tolist()) == {-1}
    assert max(bench.run(gaps(bench, group))) < 1e-4
