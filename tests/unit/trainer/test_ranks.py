"""Ranks: rows dealt evenly, passes counted evenly, and the numbers of one process in every mode."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_trainer.errors import ConfigError
from etude_trainer.layout import Budget, Row, pack_rows
from etude_trainer.parallel.crew import ALONE, join_crew
from etude_trainer.parallel.shares import deal, row_cost, share_of
from support.rank_process import train, train_in_ranks

BUDGET = Budget(max_tokens=64, share_prompts=False, pair_cost=0.01)

lengths = st.lists(st.integers(2, 100), min_size=0, max_size=30)


def rows_of(numbers: list[int]) -> list[Row]:
    return [Row((index,), 0, number) for index, number in enumerate(numbers)]


@given(numbers=lengths, num_ranks=st.integers(1, 5))
def test_every_row_is_dealt_once_and_loads_differ_by_one_row(
    numbers: list[int], num_ranks: int
) -> None:
    rows = rows_of(numbers)
    dealt = deal(rows, BUDGET, num_ranks=num_ranks)
    assert sorted(row.sequences for own in dealt for row in own) == [row.sequences for row in rows]
    loads = [sum(row_cost(row, BUDGET) for row in own) for own in dealt]
    largest = max((row_cost(row, BUDGET) for row in rows), default=0.0)
    assert max(loads) - min(loads) <= largest + 1e-9


@given(numbers=lengths, num_ranks=st.integers(2, 5))
def test_every_rank_makes_as_many_passes(numbers: list[int], num_ranks: int) -> None:
    rows = rows_of(numbers)
    shares = [share_of(rows, BUDGET, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    passes = {len(share.micro_batches) + share.num_idle for share in shares}
    assert len(passes) == 1
    assert min(share.num_idle for share in shares) == 0
    found = [row for share in shares for batch in share.micro_batches for row in batch]
    assert sorted(row.sequences for row in found) == [row.sequences for row in rows]


def test_one_rank_alone_packs_as_ever() -> None:
    rows = rows_of([9, 30, 31, 64, 2])
    assert share_of(rows, BUDGET, rank=0, num_ranks=1).micro_batches == pack_rows(rows, BUDGET)


BASE = "[optimizer]\nlr = 1e-4\n[batch]\nmicro_batch_tokens = 64\nmini_batch_groups = 2\n"
MODES = {
    "fsdp": BASE,
    "hsdp": BASE + "[parallel]\nreplicas = 2\n",
    "recomputed": BASE + "[model]\ngradient_checkpointing = true\nlogits_elements = 4096\n",
    "gspo": BASE + '[objective]\nvariant = "gspo"\nkl_beta = 0.01\nentropy_coef = 0.01\n',
}
LOW = BASE + '[model]\nautocast = "bfloat16"\n'


@pytest.mark.slow
def test_two_ranks_are_one_process_in_every_mode(tiny_dir: Path, tmp_path: Path) -> None:
    texts = [*MODES.values(), LOW + '[parallel]\ngather = "bfloat16"\n']
    by_rank = train_in_ranks(tiny_dir, texts, num_ranks=2, out=tmp_path)
    for number, text in enumerate([*MODES.values(), LOW]):
        want, want_metrics, want_probes = train(tiny_dir, text)
        is_exact = text is not LOW
        for results in by_rank:
            weights, metrics, probes = results[number]
            gap = max(float((weights[name] - want[name]).abs().max()) for name in want)
            assert gap <= (1e-6 if is_exact else 5e-4), (number, gap)
            assert probes == pytest.approx(want_probes, abs=1e-5 if is_exact else 1e-1)
            for ours, theirs in zip(metrics, want_metrics, strict=True):
                assert ours.keys() == theirs.keys()
                for name in ("loss", "grad_norm", "entropy", "num_tokens_trained", "clip_share"):
                    tolerance = 1e-6 if is_exact else 3e-2
                    value = theirs.get(name, 0.0)
                    assert ours.get(name, 0.0) == pytest.approx(value, rel=1e-5, abs=tolerance)
        assert want_metrics[0]["grad_norm"] > 1e-3


def test_torchrun_s_variables_are_whole_and_each_rank_takes_its_own_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert join_crew(device="auto") is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="LOCAL_RANK, RANK: start with torchrun"):
        join_crew(device="cpu")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match="each rank takes its own; give cuda"):
        join_crew(device="cuda:1")
