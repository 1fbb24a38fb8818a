"""BFCL's simulated services, their tools and their own judgement, inside the sandbox.

The classes, their tool documents and the state and response checkers are the `bfcl-eval` package's.
Its executor is not used: it hands the policy's text to `eval`; here a call is a method's name and
plain values. When a user turn has been answered the gold calls are executed in a second set of
services, and the package's checkers compare the two, as its multi-turn checker does.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from etude_proto.v1.environments import gold_call

from .refusing import Refused

_CHECKER: Final = "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker"
_CONSTANTS: Final = "bfcl_eval.constants.executable_backend_config"
_TYPES: Final = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""Types of the documents that JSON Schema calls by another name, or not at all."""
_MAX_BITS: Final = 100_000
_MAX_DIGITS: Final = 1_000
_DIGITS: Final = ("precision", "decimal_places")
"""Parameters of MathAPI that set how many digits are computed."""

Document = dict[str, object]
"""A tool as JSON."""
_SERVICES: dict[str, Callable[[], object]] = {}
_DOCUMENTS: dict[str, list[Document]] = {}
_STATELESS: set[str] = set()


def load_services() -> None:
    """Import every service and read its documents, before files are out of reach."""
    constants = importlib.import_module(_CONSTANTS)
    spec = importlib.util.find_spec("bfcl_eval")
    assert spec is not None
    assert spec.origin is not None
    documents = Path(spec.origin).parent / "data" / "multi_turn_func_doc"
    _STATELESS.update(constants.STATELESS_CLASSES)
    for name, file in constants.MULTI_TURN_FUNC_DOC_FILE_MAPPING.items():
        if name in ("WebSearchAPI",) or name.startswith("MemoryAPI"):
            continue
        module = importlib.import_module(constants.CLASS_FILE_PATH_MAPPING[name])
        _SERVICES[name] = getattr(module, name)
        lines = (documents / file).read_text(encoding="utf-8").splitlines()
        _DOCUMENTS[name] = [_tool(json.loads(line)) for line in lines if line.strip()]


def _tool(document: Mapping[str, object]) -> Document:
    return {
        "name": document["name"],
        "description": document["description"],
        "parameters": _schema(document["parameters"]),
    }


def _schema(value: object) -> object:
    """Parameters with JSON Schema's names of types."""
    if isinstance(value, list):
        return [_schema(one) for one in value]
    if not isinstance(value, dict):
        return value
    renamed: dict[str, object] = {}
    for key, one in value.items():
        if key == "type" and isinstance(one, str):
            if (name := _TYPES.get(one, one)) is not None:
                renamed[key] = name
        else:
            renamed[key] = _schema(one)
    return renamed


class _Services:
    """The instances of one side: the policy's, or the gold's."""

    def __init__(self, config: Mapping[str, object]) -> None:
        scenarios, classes = config["initial_config"], config["classes"]
        assert isinstance(scenarios, dict)
        assert isinstance(classes, list)
        self.instances: dict[str, object] = {}
        self.methods: dict[str, Callable[..., object]] = {}
        for name in classes:
            instance = _SERVICES[name]()
            if name not in _STATELESS:
                scenario = copy.deepcopy(scenarios.get(name, {}))
                instance._load_scenario(  # type: ignore[attr-defined]
                    scenario, long_context=bool(config["long_context"])
                )
            self.instances[name] = instance
            for method, bound in inspect.getmembers(instance, predicate=inspect.ismethod):
                if not method.startswith("_"):
                    self.methods[method] = bound

    def execute(self, name: str, args: Sequence[object], named: Mapping[str, object]) -> str:
        """What a call answers, as text; a fault of the call is text too."""
        try:
            result = self.methods[name](*args, **named)
        except Exception as error:  # whatever a simulated service raises is its answer
            return f"Error during execution: {error}"
        if isinstance(result, str):
            return result
        if isinstance(result, dict):
            try:
                return json.dumps(result)
            except (TypeError, ValueError):
                return str(result)
        return str(result)


class BfclServices:
    """The environment: services, what is on offer, and how far the gold was reached."""

    def __init__(
        self, config: Mapping[str, object], reference: Mapping[str, object] | None
    ) -> None:
        self._config = config
        self._own = _Services(config)
        self._gold: list[list[str]] = []
        if reference is not None and reference.get("kind") == "bfcl_turns":
            turns = reference["turns"]
            assert isinstance(turns, list)
            self._gold = turns
        self._golden = _Services(config) if self._gold else None
        self._turn = 0
        self._num_calls = 0
        """Made in this user turn."""
        self._responses: list[str] = []
        """Of all calls so far, as BFCL compares them."""
        self._right: list[tuple[bool, bool]] = []
        """State and response after each user turn with gold calls."""

    def tools(self) -> list[Document]:
        """Tools of all services, less those that are withheld until a later turn."""
        withheld = self._config["withheld"]
        assert isinstance(withheld, dict)
        later = {
            name for turn, names in withheld.items() if int(turn) > self._turn for name in names
        }
        offered = [one for name in self._own.instances for one in _DOCUMENTS[name]]
        return [one for one in offered if one["name"] not in later]

    def call(self, name: str, parameters: dict[str, object]) -> str:
        """Execute a call. Raises `Refused` for what there is not, or what would take for ever.

        A tool that is withheld answers too, as it does in BFCL; it is only not shown.
        """
        offered = [one["name"] for each in self._own.instances for one in _DOCUMENTS[each]]
        if name not in offered:
            raise Refused(f"there is no tool {name!r}")
        _refuse_endless(name, parameters)
        answer = self._own.execute(name, (), parameters)
        self._num_calls += 1
        self._responses.append(answer)
        return answer

    def request(self, number: int) -> list[str]:
        """The next user turn begins; tools that were withheld until now."""
        before = {str(one["name"]) for one in self.tools()}
        self._turn = number
        return [str(one["name"]) for one in self.tools() if one["name"] not in before]

    def end(self) -> None:
        """Execute the turn's gold calls and compare."""
        if self._golden is None or self._turn >= len(self._gold):
            return
        calls = self._gold[self._turn]
        expected = [self._golden.execute(*gold_call(text)) for text in calls]
        if calls:
            self._right.append(self._compared(self._golden, expected))
        self._num_calls = 0

    def judge(self) -> dict[str, float]:
        """Share of the user turns with gold calls after which state and responses were right."""
        num = sum(1 for calls in self._gold if calls)
        if not num:
            return {}
        return {
            "state": sum(state for state, _ in self._right) / num,
            "response": sum(response for _, response in self._right) / num,
        }

    def _compared(self, golden: _Services, expected: list[str]) -> tuple[bool, bool]:
        """As the package's checker: a turn that wants calls and got none is wrong altogether."""
        if not self._num_calls:
            return False, False
        checker = importlib.import_module(_CHECKER)
        state = checker.state_checker(self._own.instances, golden.instances)
        response = checker.response_checker(self._responses, expected, self._turn)
        return bool(state["valid"]), bool(response["valid"])


def _refuse_endless(name: str, parameters: Mapping[str, object]) -> None:
    """Refuse arithmetic that would run until the alarm. Raises `Refused`."""
    for word in _DIGITS:
        value = parameters.get(word)
        if isinstance(value, int | float) and abs(value) > _MAX_DIGITS:
            raise Refused(f"{word} is at most {_MAX_DIGITS}")
    base, exponent = parameters.get("base"), parameters.get("exponent")
    if not (name == "power" and isinstance(base, int) and isinstance(exponent, int)):
        return
    if base.bit_length() * abs(exponent) > _MAX_BITS:
        raise Refused("the number would be too large")
