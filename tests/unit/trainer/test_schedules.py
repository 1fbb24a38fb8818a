"""Learning-rate schedules against algorithms.md, section 4.3."""

from __future__ import annotations

from itertools import pairwise

import pytest

from etude_trainer.algorithms.schedules import Schedule, learning_rate

DECAY = Schedule(kind="exponential", factor=0.85, period_steps=7, floor=0.1)


@pytest.mark.parametrize(
    ("t", "want"),
    [(0, 1e-6), (7, 8.5e-7), (14, 7.225e-7), (49, 3.2058e-7), (98, 1.0277e-7), (105, 1e-7)],
)
def test_exponential_decay(t: int, want: float) -> None:
    assert learning_rate(t, base=1e-6, schedule=DECAY) == pytest.approx(want, abs=5e-12)


def test_the_rate_is_a_staircase_with_a_floor() -> None:
    rates = [learning_rate(t, base=1.0, schedule=DECAY) for t in range(300)]
    assert rates[:7] == [1.0] * 7
    assert all(later <= earlier for earlier, later in pairwise(rates))
    assert rates[-1] == 0.1


def test_warmup_rises_to_the_base_rate() -> None:
    schedule = Schedule(kind="constant", warmup_steps=20)
    rates = [learning_rate(t, base=1e-6, schedule=schedule) for t in (0, 9, 19, 20, 500)]
    assert rates == pytest.approx([5e-8, 5e-7, 1e-6, 1e-6, 1e-6])


def test_constant() -> None:
    assert {learning_rate(t, base=2e-6, schedule=Schedule()) for t in range(50)} == {2e-6}
    with pytest.raises(ValueError, match="count from 0"):
        learning_rate(-1, base=1e-6, schedule=Schedule())
