"""Parts of evaluation tests: rows in API-Bank's shape that fit a tiny model, files of answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import JsonValue

from etude_rollout.evaluation.answers import Answer, Header, rewrite

CALL: dict[str, JsonValue] = {"name": "Add", "parameters": {"a": "1", "b": "2"}}


def api_bank_rows(
    folder: Path, *, num_rows: int = 3, answer: dict[str, JsonValue] | None = None
) -> Path:
    """Three files of short rows, all with the same gold; returns the folder."""
    gold = CALL if answer is None else answer
    for level in (1, 2, 3):
        rows = [
            {
                "system": "Tools: Add(a, b)",
                "user": f"{number} plus {level}?",
                "answer": gold if level == 2 else [gold],
                "other": {},
            }
            for number in range(num_rows)
        ]
        (folder / f"level-{level}-api_processed.json").write_text(json.dumps(rows))
    return folder


def header(
    *, precision: str = "fp32", seed: int = 0, benchmark: str = "api-bank", data: str = "d"
) -> Header:
    """A header as an evaluation writes it."""
    return Header(
        benchmark=benchmark,
        data=data,
        model="models/m",
        weights="sha256:0",
        engine=f"vllm-0.32/{precision}",
        precision=precision,
        seed=seed,
        temperature=0.0001,
        max_new_tokens=64,
        prompt={"tools_in": "auto"},
    )


def answer(item_id: str, *, is_right: bool, domain: str = "level-1", text: str = "x") -> Answer:
    """An answer as an evaluation writes it."""
    return Answer(
        id=item_id,
        domain=domain,
        text=text,
        token_ids=[1, 2],
        num_prompt_tokens=3,
        finish_reason="stop",
        engine="vllm-0.32/fp32",
        is_right=is_right,
    )


def answers_file(path: Path, rights: Iterable[bool], *, precision: str, seed: int = 0) -> Path:
    """A file of answers to items 0, 1, ... of one domain."""
    given = [answer(f"{number}", is_right=right) for number, right in enumerate(rights)]
    rewrite(path, header(precision=precision, seed=seed), given)
    return path
