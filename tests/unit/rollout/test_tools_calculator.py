"""The calculator: arithmetic, and refusals of all that is not, or is too large to compute."""

from __future__ import annotations

import ast
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_rollout.tools.sandbox.calculator import MAX_CHARS, Calculator, evaluate
from etude_rollout.tools.sandbox.refusing import Refused


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("7 // 2 + 7 % 2", 4),
        ("2 ** 100", 2**100),
        ("2 ** -1", 0.5),
        ("sqrt(16) + abs(-3)", 7.0),
        ("math.pi", math.pi),
        ("math.sin(0)", 0.0),
        ("max(1, 2.5)", 2.5),
        ("sum([1, 2, 3]) / 3", 2.0),
        ("round(2.567, 1)", 2.6),
        ("pow(2, 3)", 8),
        ("comb(5, 2)", 10),
        (" 1\n", 1),
    ],
)
def test_values(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("1 / 0", "division by zero"),
        ("2 ** 10 ** 10", "too large"),
        ("10 ** 400 * 10 ** 1000", "too large"),
        ("factorial(10 ** 6)", "up to 500"),
        ("round(5, -10 ** 9)", "up to 300"),
        ("exp(10000)", "too large"),
        ("(-8) ** .5", "not a real number"),
        ("sqrt(-1)", "cannot be computed"),
        ("min()", "cannot be computed"),
        ("__import__('os')", "no function"),
        ("().__class__", "not arithmetic"),
        ("open('/etc/passwd')", "no function"),
        ("(lambda: 1)()", "only functions by name"),
        ("[x for x in [1]]", "not arithmetic"),
        ("'a' * 10 ** 9", "not arithmetic"),
        ("True", "not arithmetic"),
        ("1 if 1 else 2", "not arithmetic"),
        ("sin(x=1)", "not arithmetic"),
        ("x", "not arithmetic"),
        ("1 +", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("-" * 1000 + "1", "nested too deeply"),
        ("(" * 900 + "1" + ")" * 900, "no arithmetic expression"),
        ("1" * (MAX_CHARS + 1), "longer than"),
    ],
)
def test_refusals(expression: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        evaluate(expression)


@settings(max_examples=300)
@given(
    expression=st.recursive(
        st.integers(-9, 9).map(lambda n: f"({n})"),
        lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda parts: f"({''.join(parts)})"
        ),
        max_leaves=8,
    )
)
def test_it_computes_what_python_does(expression: str) -> None:
    """Against Python's own evaluation of the same tree, folded by hand."""
    assert evaluate(expression) == _folded(ast.parse(expression, mode="eval").body)


def _folded(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        left, right = _folded(node.left), _folded(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        return left - right if isinstance(node.op, ast.Sub) else left * right
    value = ast.literal_eval(node)
    assert isinstance(value, int)
    return value


@given(text=st.text(alphabet='0123456789+-*/%().,[]eijmaxsqrtlog_" \n', max_size=60))
def test_nothing_but_a_refusal_is_raised(text: str) -> None:
    try:
        value = evaluate(text)
    except Refused:
        return
    assert isinstance(value, int | float)


def test_its_one_tool_wants_one_string() -> None:
    calculator = Calculator()
    assert calculator.call("calculate", {"expression": "6*7"}) == "42"
    wrong: list[tuple[str, dict[str, object]]] = [
        ("calculate", {}),
        ("calculate", {"expression": 3}),
        ("calculate", {"expression": "1", "more": 1}),
        ("compute", {"expression": "1"}),
    ]
    for name, parameters in wrong:
        with pytest.raises(Refused):
            calculator.call(name, parameters)
