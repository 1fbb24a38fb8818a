"""What the demo runs: read from the environment once, and the constants of each policy.

`make demo` hands over POLICY, ENGINE and MINUTES. The constants of a policy are our choice, made
so that a machine with two cores shows learning in the time given (docs/how-to/demo.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Policy = Literal["small", "tiny"]
Engine = Literal["transformers", "vllm"]

PREFILL = '<think> One tool fits the request. </think>\n<tool_call>\n{"name": "'
"""Given to SmolLM2 in every rollout: it spends its few tokens on the call itself."""


class BadOption(ValueError):
    """An environment variable that means nothing here; the message names it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One policy with everything that suits it."""

    title: str
    model: str
    """Name of its directory under `models/` in the data directory."""
    dataset: str
    group_size: int
    """G."""
    batch_groups: int
    """B."""
    cap_groups: int
    """Tasks leased plus groups ready; small, so that rollouts stay fresh."""
    rollout: Mapping[str, str]
    """Settings of the rollout service, without their prefix."""
    trainer: str
    """Training configuration, TOML."""


SMALL = Profile(
    title="SmolLM2-135M-Instruct",
    model="smollm2-135m-instruct",
    dataset="bfcl-simple-python",
    group_size=6,
    batch_groups=4,
    cap_groups=12,
    rollout={
        "TOOLS_IN": "user",
        "EXPLAIN_FORMAT": "false",
        "NUM_SHOTS": "1",
        "ASSISTANT_PREFILL": PREFILL,
        "TEMPERATURE": "0.7",
        "MAX_NEW_TOKENS": "64",
        "MAX_PROMPT_TOKENS": "512",
        "TASKS_PER_BATCH": "4",
        "BATCHES_IN_FLIGHT": "2",
        "VLLM_MAX_MODEL_LEN": "1024",
    },
    trainer="""\
# SmolLM2-135M on two cores: few, small steps, so each is larger than ToolRL's.
preset = "toolrl"
[objective]
clip_high = 0.28
entropy_coef = 0.0
[advantage]
std_floor = 0.3
[optimizer]
lr = 2e-5
weight_decay = 0.0
[batch]
mini_batch_groups = 0
micro_batch_tokens = 768
wait_s = 2.0
[model]
temperature = 0.7
""",
)

TINY = Profile(
    title="tiny Llama, warm-started",
    model="tiny",
    dataset="tiny-tools",
    group_size=16,
    batch_groups=16,
    cap_groups=48,
    rollout={
        "EXPLAIN_FORMAT": "false",
        "TEMPERATURE": "1.0",
        "MAX_NEW_TOKENS": "80",
        "MAX_PROMPT_TOKENS": "512",
        "TASKS_PER_BATCH": "16",
        "BATCHES_IN_FLIGHT": "2",
        "ENGINE_MAX_ROWS": "256",
        "VLLM_MAX_MODEL_LEN": "1024",
    },
    trainer="""\
# A hundred thousand parameters bear a large learning rate.
preset = "toolrl"
[objective]
clip_high = 0.28
entropy_coef = 0.0
[advantage]
std_floor = 0.3
[optimizer]
lr = 1e-3
weight_decay = 0.0
[batch]
mini_batch_groups = 0
micro_batch_tokens = 65536
wait_s = 2.0
""",
)

PROFILES: Mapping[Policy, Profile] = {"small": SMALL, "tiny": TINY}


@dataclass(frozen=True, slots=True)
class Options:
    """One start of the demo."""

    root: Path
    """The repository: children run here."""
    data: Path
    """`.etude`: servers, models, weights, checkpoints and `demo/`."""
    policy: Policy
    engine: Engine
    minutes: float
    fresh: bool
    """Start a new run instead of resuming the last one."""
    ports: Mapping[str, int]
    """Preferred ports; another is taken where one is in use."""

    @property
    def profile(self) -> Profile:
        """The policy's constants."""
        return PROFILES[self.policy]

    @property
    def demo_dir(self) -> Path:
        """Logs, configuration, summary."""
        return self.data / "demo"

    @property
    def model_dir(self) -> Path:
        """Model directory of the policy."""
        return self.data / "models" / self.profile.model

    @property
    def run_name(self) -> str:
        """Name of the run that is created or resumed."""
        return f"demo-{self.policy}"

    @property
    def bin(self) -> Path:
        """Where the services' commands are."""
        return Path(sys.executable).parent

    @property
    def vllm_python(self) -> Path:
        """Interpreter of vLLM's own environment."""
        return self.root / ".venv-vllm" / "bin" / "python"


_POLICIES: Mapping[str, Policy] = {"small": "small", "tiny": "tiny"}
_ENGINES: Mapping[str, Engine] = {"transformers": "transformers", "vllm": "vllm"}
_PORTS = {
    "sampler": ("ETUDE_PORT", 8321),
    "rollout": ("ETUDE_ROLLOUT_PORT", 8322),
    "trainer": ("ETUDE_TRAINER_PORT", 8323),
    "vllm": ("ETUDE_VLLM_PORT", 8324),
}


def read_options(environment: Mapping[str, str], root: Path) -> Options:
    """Options from POLICY, ENGINE, MINUTES, FRESH, ETUDE_DATA_DIR and the services' ports.

    Raises:
        BadOption: a value is not one of those that are known.
    """
    policy = _POLICIES.get(environment.get("POLICY") or "small")
    engine = _ENGINES.get(environment.get("ENGINE") or "transformers")
    if policy is None:
        raise BadOption(f"POLICY={environment['POLICY']}: small or tiny")
    if engine is None:
        raise BadOption(f"ENGINE={environment['ENGINE']}: transformers or vllm")
    options = Options(
        root=root,
        data=root / (environment.get("ETUDE_DATA_DIR") or ".etude"),
        policy=policy,
        engine=engine,
        minutes=_number(environment, "MINUTES", 10.0),
        fresh=(environment.get("FRESH") or "0") not in ("0", "no", "false"),
        ports={
            service: int(_number(environment, variable, default))
            for service, (variable, default) in _PORTS.items()
        },
    )
    if engine == "vllm" and not options.vllm_python.is_file():
        raise BadOption(f"ENGINE=vllm: no {options.vllm_python}; `make setup-vllm` builds it")
    return options


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise BadOption(f"{name}={text}: a number is wanted") from None
    if not 0 < value < 1e6:
        raise BadOption(f"{name}={text}: above 0, and not that large")
    return value


def child_environment(data: Path) -> dict[str, str]:
    """Our environment without anybody's ETUDE settings, and with the demo's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETUDE_")}
    for name in ("POLICY", "ENGINE", "MINUTES", "FRESH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        kept.pop(name, None)
    # Each service computes on its own share of the cores (`prepare.threads`), and waits for the
    # others' without burning them.
    kept.pop("OMP_NUM_THREADS", None)
    ours = {"ETUDE_DATA_DIR": str(data), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**kept, **ours}
