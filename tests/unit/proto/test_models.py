"""Models: examples round trip, requests are strict, responses are tolerant, numbers are finite."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, ValidationError

from etude_proto import v1
from etude_proto.v1 import (
    Attempt,
    FinishReason,
    Outcome,
    PredictionsRequest,
    ProblemCode,
    PromptBatchRequest,
    RunCreate,
    RunLimits,
    TaskCreate,
)
from support.contract import Example, example, examples

ALL = examples()
by_name = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
MODELS = [
    model
    for model in (getattr(v1, name) for name in v1.__all__)
    if isinstance(model, type) and issubclass(model, BaseModel)
]


@by_name
def test_examples_round_trip(case: Example) -> None:
    first = case.model.model_validate_json(case.text)
    again = case.model.model_validate_json(first.model_dump_json())
    assert again == first
    written = json.loads(case.text)
    assert _contains(json.loads(first.model_dump_json()), written)


def _contains(whole: object, part: object) -> bool:
    """Whether everything in `part` is in `whole`: defaults may be added, nothing may change."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        pairs = zip(whole, part, strict=True)
        return len(whole) == len(part) and all(_contains(a, b) for a, b in pairs)
    return whole == part


@by_name
def test_unknown_fields_are_refused_in_requests_and_ignored_in_responses(case: Example) -> None:
    document = {**json.loads(case.text), "brand_new": 1}
    if case.is_request:
        with pytest.raises(ValidationError, match="brand_new"):
            case.model.model_validate(document)
    else:
        known = case.model.model_validate(document)
        assert "brand_new" not in known.model_dump()


def test_unknown_fields_are_refused_deep_inside_requests() -> None:
    document = json.loads(example("Report"))
    document["groups"][0]["attempts"][0]["outcomes"][0]["succes"] = True
    with pytest.raises(ValidationError, match="succes"):
        v1.Report.model_validate(document)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_models_are_frozen_and_finite(model: type[BaseModel]) -> None:
    assert issubclass(model, v1.Request | v1.Response)
    assert model.model_config["frozen"] is True
    assert model.model_config["allow_inf_nan"] is False


NOT_FINITE = ["NaN", "Infinity", "-Infinity", "1e999"]


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("field", ["reward", "shaping", "components"])
def test_numbers_of_outcomes_are_finite(number: str, field: str) -> None:
    value = f'{{"format": {number}}}' if field == "components" else number
    rest = '"finish_reason": "stop", "success": true'
    fields = {"components": "{}", "reward": "0.0", field: value}
    text = "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + f", {rest}}}"
    with pytest.raises(ValidationError):
        Outcome.model_validate_json(text)


@pytest.mark.parametrize("number", NOT_FINITE)
def test_free_data_is_finite_too(number: str) -> None:
    text = f'{{"messages": [{{"role": "user", "content": ""}}], "metadata": {{"x": [{number}]}}}}'
    with pytest.raises(ValidationError):
        TaskCreate.model_validate_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01])
def test_scores_lie_between_zero_and_one(value: float) -> None:
    with pytest.raises(ValidationError):
        Outcome(
            components={"format": value}, reward=0.0, success=False, finish_reason=FinishReason.STOP
        )


def test_text_that_postgresql_cannot_store_is_refused() -> None:
    for field in ("weights_uri", "metrics"):
        value = {"a\x00": 1.0} if field == "metrics" else "file:///a\x00"
        fields = {"fence": 1, "policy_version": 1, "weights_uri": "file:///a", field: value}
        with pytest.raises(ValidationError, match=field):
            v1.AckRequest.model_validate(fields)


@pytest.mark.parametrize("name", ["", " x", "a" * 129, "a\n", "a\x00", "ü", "-a"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        PromptBatchRequest(num_tasks=1, worker=name)


@pytest.mark.parametrize("name", ["", "Format", "tool name", "_x", "9a", "a" * 65, "uniform\n"])
def test_subtasks_are_snake_case(name: str) -> None:
    with pytest.raises(ValidationError):
        TaskCreate(messages=[v1.Message(role="user", content="")], subtasks=[name])


@pytest.mark.parametrize(
    "identifier", ["", "run", "run_", "Run_1", "run_a/b", "run_" + "a" * 93, "run_é", "run_1\n"]
)
def test_identifiers_are_prefixed_and_opaque(identifier: str) -> None:
    with pytest.raises(ValidationError):
        RunCreate(name="x", dataset_id=identifier)


def test_bounds_of_lists() -> None:
    with pytest.raises(ValidationError):
        Attempt(outcomes=[])
    with pytest.raises(ValidationError):
        PredictionsRequest(predictions=[], policy_version=0)


def test_references_are_told_apart_by_kind() -> None:
    message = {"role": "user", "content": "x"}
    for name in ("BFCLReference", "CallsReference", "ToolRLReference", "ResponseReference"):
        kind = getattr(v1, name).model_fields["kind"].default
        body: dict[str, object] = {"kind": kind}
        if kind == "toolrl":
            body["text"] = "gold"
        elif kind == "calls":
            body["calls"] = [{"name": "f"}]
        elif kind == "bfcl":
            body["calls"] = [{"f": {"a": [1, "1"]}}]
        task = TaskCreate.model_validate({"messages": [message], "reference": body})
        assert type(task.reference).__name__ == name
    with pytest.raises(ValidationError):
        TaskCreate.model_validate({"messages": [message], "reference": {"kind": "python"}})


def test_failures_of_infrastructure_say_nothing_of_the_policy() -> None:
    invalid = {reason for reason in FinishReason if not reason.is_valid}
    assert invalid == {FinishReason.TIMEOUT, FinishReason.ERROR, FinishReason.ABORTED}


def test_codes_are_snake_case_and_unique() -> None:
    assert all(code.value == code.name.lower() for code in ProblemCode)


def test_limits_hold_two_training_batches() -> None:
    assert RunLimits().cap == 64
    assert RunLimits(training_batch_groups=32).cap == 128
    assert RunLimits(training_batch_groups=4, cap_groups=8).cap == 8
    with pytest.raises(ValidationError, match="cap_groups must hold two"):
        RunLimits(training_batch_groups=4, cap_groups=7)


def test_the_byte_budget_holds_two_training_batches() -> None:
    two = 2 * 8 * (1 << 20)
    assert RunLimits(max_group_bytes=1 << 20, cargo_bytes=two).cargo_bytes == two
    with pytest.raises(ValidationError, match="cargo_bytes must hold two"):
        RunLimits(max_group_bytes=1 << 20, cargo_bytes=two - 1)


def test_defaults_of_limits_agree_with_each_other() -> None:
    limits = RunLimits()
    assert limits.cargo_bytes >= 2 * limits.training_batch_groups * limits.max_group_bytes
    assert limits.max_batch_tasks >= limits.training_batch_groups
