"""The value of a group: signal times gain, by hand and in bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_sampler.curriculum.prediction import Prediction, make_heads
from etude_sampler.curriculum.weighers.group_value import HIGHEST, group_value
from support.groups import COMPONENTS

CHAIN = {"tool_name": COMPONENTS[:1], "param_name": COMPONENTS[:2], "param_value": COMPONENTS[:3]}
ALL = np.ones((1, 4), dtype=np.bool_)


def _prediction(chances: list[float]) -> Prediction:
    chance_NH = np.array([chances])
    return Prediction(chance_NH, make_heads(COMPONENTS, CHAIN).join(chance_NH))


@pytest.mark.parametrize(
    ("chances", "signal", "success", "components"),
    [
        # s = 2^-5, five heads miss 1/2; x = 8, 4, 2, 1, .5: same = 2^-7 2^-3 2^-1 1 1
        # q = 1/2, 1/4, 1/8, 1/16 with 1, 2, 3, 4 that miss 1/2
        ([0.5] * 5, np.sqrt(1.0 - 2.0**-11), 5 * 0.5 / 32, (4 + 4 + 3 + 2) / 64),
        # only success is open: x = 8
        ([1.0, 1.0, 1.0, 1.0, 0.5], np.sqrt(1.0 - 2.0**-7), 0.25, 0.0),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0.0, 0.0, 0.0),
        ([0.0, 0.5, 0.5, 0.5, 0.5], 0.0, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("partial", [0.0, 0.5, 1.0])
def test_value_is_signal_times_gain(
    chances: list[float], signal: float, success: float, components: float, partial: float
) -> None:
    value = group_value(_prediction(chances), ALL, group_size=8, partial=partial)
    gain = (1.0 - partial) * success + partial * components
    assert value.signal_N[0] == pytest.approx(signal, abs=1e-12)
    assert value.gain_N[0] == pytest.approx(gain, abs=1e-12)
    assert value.value_N[0] == pytest.approx(signal * gain, abs=1e-5)


def test_progress_is_that_of_the_components_that_a_task_has() -> None:
    active_NK = np.array([[True, False, False, False]])
    value = group_value(_prediction([0.5, 1, 1, 1, 1]), active_NK, group_size=8, partial=1.0)
    assert value.gain_N[0] == 0.25


@given(
    st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5), st.integers(2, 64), st.floats(0.0, 1.0)
)
def test_no_value_is_above_one_over_e(
    chances: list[float], group_size: int, partial: float
) -> None:
    value = group_value(_prediction(chances), ALL, group_size=group_size, partial=partial)
    assert 0.0 <= value.signal_N[0] <= 1.0
    assert 0.0 <= value.value_N[0] <= HIGHEST
