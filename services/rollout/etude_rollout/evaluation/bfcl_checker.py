"""BFCL's own AST checker, called as its runner calls it.

The package's checker imports a table of every vendor's client; while it is imported, that table is
a small one of ours (one name, dots in function names stay). Nothing of the package runs before the
first check. Used by `bfcl.py`; rules in algorithms.md 9.2.
"""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from pydantic import JsonValue

from .bfcl_data import INSTALL
from .items import EvaluationError, Verdict

_MODELS = "bfcl_eval.constants.model_config"
_CHECKER = "bfcl_eval.eval_checker.ast_eval.ast_checker"
_ENUMS = "bfcl_eval.constants.enums"
_LANGUAGES = {"simple_java": "JAVA", "simple_javascript": "JAVASCRIPT"}
_MODEL = "etude"
_CRASHES = (KeyError, AttributeError, TypeError, ValueError, IndexError, NotImplementedError)

Calls = list[dict[str, JsonValue]]
"""Predicted calls as BFCL has them: one key each, the function's name, with its arguments."""


@cache
def _ast_checker() -> tuple[Callable[..., dict[str, Any]], Any]:
    """The checker and the enum of languages.

    Raises:
        EvaluationError: the package is not installed.
    """
    known = sys.modules.get(_MODELS)
    small = ModuleType(_MODELS)
    small.__dict__["MODEL_CONFIG_MAPPING"] = defaultdict(
        lambda: SimpleNamespace(underscore_to_dot=False)
    )
    sys.modules[_MODELS] = small
    try:
        checker = importlib.import_module(_CHECKER).ast_checker
        language = importlib.import_module(_ENUMS).Language
    except ModuleNotFoundError as error:
        raise EvaluationError(
            f"BFCL's checker needs {error.name}; get it with: {INSTALL}"
        ) from error
    finally:
        sys.modules.pop(_MODELS)
        if known is not None:
            sys.modules[_MODELS] = known
    return checker, language


def check_calls(row: Mapping[str, JsonValue], category: str, calls: Calls) -> Verdict:
    """What the checker says of predicted calls.

    Only its `valid` counts. It crashes on some values of odd types; such an answer is wrong.
    """
    checker, language = _ast_checker()
    try:
        result = checker(
            row["function"],
            calls,
            row["ground_truth"],
            language[_LANGUAGES.get(category, "PYTHON")],
            category,
            _MODEL,
        )
    except _CRASHES as error:
        return Verdict(is_right=False, reason=f"the checker fails: {type(error).__name__}")
    if result["valid"]:
        return Verdict(is_right=True)
    return Verdict(is_right=False, reason=str(result.get("error_type", "")))
