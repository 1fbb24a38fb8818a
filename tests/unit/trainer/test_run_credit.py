"""A run and a trainer must agree on who makes use of component weights and spans."""

from __future__ import annotations

import logging

import pytest

from etude_proto.v1 import CreditSpec, Run
from etude_trainer.config import AdvantageConfig
from etude_trainer.errors import ConfigError
from etude_trainer.runs import check_credit
from support.contract import example


def run(**credit: object) -> Run:
    made = Run.model_validate_json(example("Run"))
    return made.model_copy(update={"credit": CreditSpec.model_validate(credit)})


IN_ADVANTAGE = run(component_weights_in="advantage", spans=True)
DECOUPLED = AdvantageConfig(kind="decoupled")


def test_spans_that_nobody_sends_are_an_error_before_the_first_step() -> None:
    spans = AdvantageConfig(kind="decoupled", credit="spans")
    check_credit(IN_ADVANTAGE, spans)
    with pytest.raises(ConfigError, match=r"advantage\.credit"):
        check_credit(run(component_weights_in="advantage"), spans)


@pytest.mark.parametrize(
    ("made", "config", "warns"),
    [
        (run(), AdvantageConfig(), False),
        (IN_ADVANTAGE, DECOUPLED, False),
        (run(), DECOUPLED, True),
        (IN_ADVANTAGE, AdvantageConfig(), True),
    ],
)
def test_weights_that_act_twice_or_nowhere_are_told(
    made: Run, config: AdvantageConfig, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_credit(made, config)
    assert [record.message for record in caplog.records] == ["credit.mismatch"] * warns
