"""`docs/reference/training.md`: the trainer's configuration, preset by preset.

Called by `generate.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Sequence

from pydantic import BaseModel

from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.presets import PRESETS, RUN_SHAPES, RunShape
from page_parts import code, default_of, sentence_of, shown, table


def training_page(generated: str) -> str:
    """`docs/reference/training.md`: the trainer's TOML, with the values of every preset."""
    lines = ["# Training configuration", "", generated, ""]
    lines += [
        "The TOML file that `ETUDE_TRAINER_CONFIG` names. Where it is silent, the preset's value"
        " holds; a column a preset.",
        "",
    ]
    configs = [parse_config("", preset=preset) for preset in PRESETS]
    top: list[Sequence[str]] = []
    tables: list[str] = []
    for name, field in TrainingConfig.model_fields.items():
        sentence = sentence_of("TrainingConfig", name, field)
        part = field.annotation
        if not (inspect.isclass(part) and issubclass(part, BaseModel)):
            top.append((code(name), code(default_of(field)), sentence))
            continue
        rows = []
        for key, knob in part.model_fields.items():
            values = [getattr(getattr(config, name), key) for config in configs]
            meaning = sentence_of(part.__name__, key, knob)
            rows.append((code(key), *(code(shown(value)) for value in values), meaning))
        tables += [f"## `[{name}]`", "", sentence, ""]
        tables += table("Key", *(f"`{preset}`" for preset in PRESETS), "Meaning", rows=rows)
    tables += ["## The run beside it", ""]
    tables += [
        "What a preset's paper says of the run and of its rollout workers. The trainer warns once,"
        " when it joins a run that differs (`preset.differs`), and names what workers should be set"
        " to (`preset.workers`). Unset: the paper does not say.",
        "",
    ]
    rows = [
        (
            code(knob.name),
            *(code(shown(getattr(shape, knob.name))) for shape in RUN_SHAPES.values()),
            _below(RunShape, knob.name),
        )
        for knob in dataclasses.fields(RunShape)
    ]
    tables += table("Constant", *(f"`{name}`" for name in RUN_SHAPES), "Where", rows=rows)
    return "\n".join([*lines, *table("Key", "Default", "Meaning", rows=top), *tables])


def _below(kind: type, name: str) -> str:
    """The string below a dataclass's field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) == name:
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
            return " ".join(str(text.value.value).split())
    raise ValueError(f"{kind.__name__}.{name} does not explain itself")
