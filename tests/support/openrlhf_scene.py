"""OpenRLHF's own trainer and samples generator around a policy of one number, in this process.

What is replaced are the workers on GPUs: actors, engines, and ray's way to wait for them; packages
that need a GPU are blank while OpenRLHF is imported. Its loop, loader, filter and checkpoint states
are its own.
"""

from __future__ import annotations

import copy
import importlib.machinery
import json
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from support.trainer_rows import PROMPTS, Player

ValueT = TypeVar("ValueT")
GPU_ONLY = ("deepspeed", "flash_attn", "liger_kernel", "vllm")


class Killed(Exception):
    """The trainer ends here."""


class _Blank(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Blanks:
    """Finds blank modules for packages that need a GPU."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] not in GPU_ONLY:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Blank(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It stays blank."""


@contextmanager
def openrlhf_imports() -> Iterator[None]:
    """Packages that need a GPU are blank meanwhile, and gone again afterwards."""
    import peft  # noqa: F401  # it looks at what is installed, before there are blanks
    import transformers  # noqa: F401

    blanks: Any = _Blanks()
    sys.meta_path.append(blanks)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(blanks)
        for name in [one for one in sys.modules if one.split(".")[0] in GPU_ONLY]:
            del sys.modules[name]


class Actors:
    """The group of actors: keeps the policy, and what is saved with it."""

    def __init__(self, saved: dict[str, Any], player: Player) -> None:
        self.saved = saved
        self.player = player

    def async_run_method(self, method_name: str, **given: object) -> list[Any]:
        if method_name == "save_checkpoint":
            self.saved["states"] = copy.deepcopy(given["client_states"])
            self.saved["num_steps"] = self.player.num_steps
        elif method_name == "get_checkpoint_states":
            self.player.num_steps = self.saved["num_steps"]
            return [copy.deepcopy(self.saved["states"])]
        return [None]


class Here:
    """Ray, for work that is done at once."""

    @staticmethod
    def get(what: ValueT) -> ValueT:
        return what

    @staticmethod
    def wait(pending: list[ValueT], **_: object) -> tuple[list[ValueT], list[ValueT]]:
        return pending[:1], pending[1:]


def arguments(folder: Path, **changes: object) -> SimpleNamespace:
    """OpenRLHF's arguments, those that its trainer reads."""
    file = folder / "prompts.jsonl"
    rows = [{"input": prompt, "label": prompt, "datasource": prompt[:3]} for prompt in PROMPTS]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    flat: Mapping[str, Any] = {
        "data.prompt_dataset": str(file),
        "data.prompt_probs": None,
        "data.max_samples": 100,
        "data.prompt_split": "train",
        "data.input_template": None,
        "data.input_key": "input",
        "data.label_key": "label",
        "data.apply_chat_template": False,
        "data.dataloader_num_workers": 0,
        "data.disable_fast_tokenizer": False,
        "train.seed": 1,
        "train.batch_size": 16,
        "train.num_episodes": 1,
        "train.max_epochs": 1,
        "train.async_enable": False,
        "rollout.batch_size": 4,
        "rollout.n_samples_per_prompt": 4,
        "eval.dataset": str(file),
        "eval.split": "train",
        "eval.steps": 3,
        "eval.temperature": 1.0,
        "eval.n_samples_per_prompt": 4,
        "ckpt.path": str(folder),
        "ckpt.load_enable": False,
        "ckpt.save_steps": 2,
        "ckpt.best_metric_key": "none",
        "algo.kl.target": None,
        "algo.kl.init_coef": 0.0,
        "algo.advantage.estimator": "group_norm",
        "algo.advantage.is_correction_level": "off",
        "algo.dynamic_filtering_enable": True,
        "algo.dynamic_filtering_range": (0.0, 1.0),
        "vllm.enable_sleep": False,
        "logger.wandb.key": None,
        "logger.tensorboard_dir": None,
        "logger.logging_steps": 1000,
        **changes,
    }
    from openrlhf.utils.config import hierarchize

    found: SimpleNamespace = hierarchize(SimpleNamespace(**flat))
    return found


def strategy(args: SimpleNamespace) -> SimpleNamespace:
    """OpenRLHF's strategy, the part that builds loaders."""
    from openrlhf.utils.deepspeed.deepspeed import DeepspeedStrategy

    made = SimpleNamespace(args=args, is_rank_0=lambda: False, print=lambda *_: None)
    made.setup_dataloader = types.MethodType(DeepspeedStrategy.setup_dataloader, made)
    return made


def in_process(base: type[Any]) -> type[Any]:
    """OpenRLHF's trainer, whose policy answers at once."""

    class InProcess(base):  # type: ignore[misc]
        player = Player()
        dies_at: int | None = None

        def train_step(self, samples: list[Any], step: int) -> tuple[dict[str, Any], int]:
            if step + 1 == self.dies_at:
                raise Killed
            self.player.num_steps += 1
            return {"policy_loss": 1.0 / self.player.num_steps}, step + 1

    return InProcess


def answers(player: Player, asked: list[str], prompts: list[str], count: int) -> list[list[Any]]:
    """What the engines return of prompts, scored."""
    asked += prompts
    return [
        [
            {
                "prompt": prompt,
                "label": prompt,
                "observation_tokens": [5, 6, 7, 8, 1],
                "action_ranges": [(2, 5)],
                "rollout_log_probs": None,
                "reward": player.reward(),
                "scores": player.reward(),
                "extra_logs": {"format": 1.0},
                "truncated": False,
            }
            for _ in range(count)
        ]
        for prompt in prompts
    ]
