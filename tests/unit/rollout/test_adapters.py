"""Adapters as they are published: which are taken, and by what name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from etude_rollout.engines import WeightsRefused
from etude_rollout.weights.adapters import adaptable, adapter_name, check_adapter

LAYER = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{LAYER}.lora_A.weight", f"base_model.model.{LAYER}.lora_B.weight"


def written(directory: Path, name: str, shapes: dict[str, tuple[int, ...]]) -> Path:
    directory.mkdir()
    tensors = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    save_file(tensors, directory / name)
    return directory


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    shapes = {
        f"{LAYER}.weight": (12, 8),
        "model.layers.0.mlp.gate.weight": (4, 8),
        "model.layers.0.norm.weight": (8,),
        "lm_head.weight": (50, 8),
    }
    return written(tmp_path / "model", "model.safetensors", shapes)


def adapter(tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: object = None) -> Path:
    directory = written(tmp_path / "v000007-lease_a", "adapter_model.safetensors", shapes)
    text = json.dumps({"r": 4} if config is None else config)
    (directory / "adapter_config.json").write_text(text, encoding="utf-8")
    return directory


def test_a_fitting_adapter_is_taken_under_a_name_of_its_own(
    tmp_path: Path, model_dir: Path
) -> None:
    directory = adapter(tmp_path, {A: (4, 8), B: (12, 4)})
    check_adapter(directory, model_dir=model_dir, max_rank=4)
    check_adapter(directory, model_dir=None, max_rank=None)
    assert adapter_name(directory) == "policy-v000007-lease_a"


def test_only_matrices_of_layers_are_adapted() -> None:
    shapes = {"model.layers.3.mlp.up_proj.weight": (8, 4), "model.layers.3.norm.weight": (4,)}
    others = {"lm_head.weight": (9, 4), "model.layers.3.mlp.gate.weight": (2, 4)}
    assert adaptable({**shapes, **others}) == ["model.layers.3.mlp.up_proj.weight"]


@pytest.mark.parametrize(
    ("shapes", "config", "message"),
    [
        ({A: (4, 8), B: (12, 4)}, {"r": 16}, "rank 16"),
        ({A: (4, 8), B: (12, 4)}, {}, "KeyError"),
        ({A: (4, 8), B: (12, 4)}, {"r": None}, "TypeError"),
        ({A: (8, 4), B: (12, 4)}, None, "has shape"),
        ({A: (4, 8), B: (8, 4)}, None, "has shape"),
        ({A.replace("q_proj", "z_proj"): (4, 8)}, None, "adapts no layer"),
        ({"base_model.model.lm_head.lora_A.weight": (4, 8)}, None, "adapts no layer"),
        ({f"base_model.model.{LAYER}.weight": (12, 8)}, None, "not a part"),
        ({A.removeprefix("base_model."): (4, 8)}, None, "not a part"),
        ({}, None, "of nothing"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    model_dir: Path,
    shapes: dict[str, tuple[int, ...]],
    config: object,
    message: str,
) -> None:
    with pytest.raises(WeightsRefused, match=message):
        check_adapter(adapter(tmp_path, shapes, config), model_dir=model_dir, max_rank=8)
