"""A calculator: Python's arithmetic on plain numbers, walked by us node by node.

Nothing is compiled or run. What could take long or much memory is refused before it is computed:
long expressions, deep nesting, large integers, large powers and factorials. Inside the sandbox.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Final

from .refusing import Refused

MAX_CHARS, MAX_DEPTH, MAX_BITS, MAX_FACTORIAL = 2000, 40, 4096, 500
"""Limits of an expression, of its nesting, of integers in bits, of factorials (our choice)."""

Value = int | float
_CONSTANTS: Final[dict[str, Value]] = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf}
_OPERATORS: Final[dict[type[ast.operator], Callable[[Value, Value], Value]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_OF_NUMBERS: Final[dict[str, Callable[..., Value]]] = {
    "abs": abs,
    "ceil": math.ceil,
    "comb": math.comb,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "factorial": math.factorial,
    "floor": math.floor,
    "gcd": math.gcd,
    "hypot": math.hypot,
    "isqrt": math.isqrt,
    "lcm": math.lcm,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "radians": math.radians,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_OF_LISTS: Final[dict[str, Callable[[list[Value]], Value]]] = {
    "max": max,
    "min": min,
    "prod": math.prod,
    "sum": sum,
}
_SMALL: Final = {"factorial": MAX_FACTORIAL, "comb": 2 * MAX_FACTORIAL, "round": 300}
"""Largest argument of functions whose values explode; of round, the number of digits."""

TOOL: Final[dict[str, object]] = {
    "name": "calculate",
    "description": "The value of an arithmetic expression in Python's notation, with the functions "
    "of the math module.",
    "parameters": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}


class Calculator:
    """The environment: one tool, no state."""

    def tools(self) -> list[dict[str, object]]:
        """`calculate`."""
        return [TOOL]

    def call(self, name: str, parameters: dict[str, object]) -> str:
        """The value as text. Raises `Refused`."""
        expression = parameters.get("expression")
        if name != TOOL["name"] or set(parameters) != {"expression"}:
            raise Refused("calculate takes one parameter, expression")
        if not isinstance(expression, str):
            raise Refused("expression must be a string")
        return str(evaluate(expression))

    def request(self, number: int) -> list[str]:
        """Nothing is new in a later user turn."""
        return []

    def end(self) -> None:
        """Nothing to keep."""

    def judge(self) -> dict[str, float]:
        """A calculator has no opinion."""
        return {}


def evaluate(expression: str) -> Value:
    """The value of an expression.

    Raises:
        Refused: no such value, or it is not for this calculator; the text says why.
    """
    if len(expression) > MAX_CHARS:
        raise Refused(f"the expression is longer than {MAX_CHARS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, 0)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise Refused("that is no arithmetic expression") from error
    except ZeroDivisionError as error:
        raise Refused("division by zero") from error
    except OverflowError as error:
        raise Refused("the number is too large") from error
    except (ValueError, TypeError) as error:
        raise Refused(f"cannot be computed: {error}") from error


def _value(node: ast.expr, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise Refused("the expression is nested too deeply")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _checked(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _checked(_OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=func, args=args, keywords=[]):
            return _called(func, args, depth + 1)
    raise Refused(f"{type(node).__name__} is not arithmetic that this calculator knows")


def _called(func: ast.expr, args: list[ast.expr], depth: int) -> Value:
    is_of_math = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name)
    if is_of_math and func.value.id == "math":  # type: ignore[attr-defined]
        name = func.attr  # type: ignore[attr-defined]
    elif isinstance(func, ast.Name):
        name = func.id
    else:
        raise Refused("only functions by name can be called")
    if len(args) == 1 and isinstance(args[0], ast.List | ast.Tuple) and name in _OF_LISTS:
        return _checked(_OF_LISTS[name]([_value(one, depth) for one in args[0].elts]))
    if name == "pow" and len(args) == 2:
        return _power(_value(args[0], depth), _value(args[1], depth))
    if name not in _OF_NUMBERS:
        raise Refused(f"there is no function {name!r}")
    values = [_value(one, depth) for one in args]
    exploding = values[1:] if name == "round" else values
    if name in _SMALL and any(abs(value) > _SMALL[name] for value in exploding):
        raise Refused(f"{name} is for numbers up to {_SMALL[name]}")
    return _checked(_OF_NUMBERS[name](*values))


def _power(base: Value, exponent: Value) -> Value:
    bits = base.bit_length() if isinstance(base, int) else 0
    if isinstance(exponent, int) and bits * exponent > MAX_BITS:
        raise Refused("the number is too large")
    value: object = base**exponent
    if not isinstance(value, int | float):
        raise Refused("the value is not a real number")
    return _checked(value)


def _checked(value: Value) -> Value:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Refused("the number is too large")
    return value
