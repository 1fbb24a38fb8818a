"""Settings of the rollout service, read from the environment once, in `app.py` and `cli.py`.

Names are `ETUDE_` and the field's name in capitals. Every field explains itself below itself; the
documentation and `.env.example` are generated from these sentences.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etude_proto.keys import checked, key_given

from .engines.base import Sampling
from .engines.vllm_server import VllmOptions
from .prompting import PromptOptions, ToolsIn
from .tools.servers import checked_servers
from .turns.options import Branching, TurnOptions


class RolloutSettings(BaseSettings):
    """Everything that a deployment decides about a rollout worker."""

    model_config = SettingsConfigDict(
        env_prefix="ETUDE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    sampler_url: str = Field(default="http://127.0.0.1:8321", pattern=r"^https?://")
    """Base URL of the sampler (or of the load balancer before its replicas)."""
    api_key_file: Annotated[Path, AfterValidator(checked)] | None = None
    """File with that key alone, instead of `ETUDE_API_KEY`: how secrets are mounted."""
    api_key: SecretStr | None = Field(default=None, validate_default=True)
    """Key sent to the sampler as bearer token, and asked for by `POST /v1/rollouts` here."""
    run: str = ""
    """Id or name of the run to work for; the worker waits until it exists."""
    worker: str = Field(default="", max_length=128)
    """Name of this worker in leases and reports; default: host name and process id."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates: `transformers` in this process, or `vllm` over HTTP."""
    model_path: Path = Path(".etude/models/smollm2-135m-instruct")
    """Model directory: weights, configuration, tokenizer with a chat template."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of generation. bfloat16 widens the parity gap to about 4e-2 nats."""
    engine_threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads of the `transformers` engine's kernels; default: torch's own choice."""
    engine_max_rows: int = Field(default=64, ge=1, le=4096)
    """Most completions that are decoded together (vLLM: `--max-num-seqs`)."""
    vllm_url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of a running vLLM server; default: the service starts one of its own."""
    vllm_python: Path | None = None
    """Python interpreter of vLLM's environment, to start the server with; default: this one."""
    vllm_port: int = Field(default=8324, ge=1, le=65535)
    """Port of a vLLM server that the service starts itself, on 127.0.0.1."""
    vllm_kv_cache_bytes: int = Field(default=512 << 20, ge=1 << 20)
    """Memory for keys and values of a vLLM server that the service starts on a CPU."""
    vllm_max_model_len: int = Field(default=4096, ge=16)
    """Longest prompt and completion of a vLLM server that the service starts (at most the
    model's own context)."""

    vllm_max_lora_rank: int | None = Field(default=None, ge=1, le=512)
    """Largest rank of LoRA adapters that the vLLM server takes, where the trainer publishes
    adapters; default: it takes whole models only (of a server of our own)."""

    batches_in_flight: int = Field(default=2, ge=1, le=256)
    """Prompt batches held and worked on at a time."""
    tasks_per_batch: int = Field(default=4, ge=1, le=4096)
    """Tasks asked for in one prompt batch."""
    lease_wait_s: float = Field(default=5.0, ge=0.0, le=30.0)
    """Long poll of a lease call; also the longest that a shutdown waits for one."""
    lease_ttl_s: float | None = Field(default=None, ge=0.2, le=3600.0)
    """Time to live of leases between heartbeats; default: the run's."""
    heartbeat_fraction: float = Field(default=0.33, gt=0.0, lt=1.0)
    """Heartbeats come every such fraction of the lease's time to live."""
    generation_timeout_s: float = Field(default=600.0, gt=0.0)
    """A group that takes longer is reported with finish reason `timeout`."""
    shutdown_grace_s: float = Field(default=10.0, ge=0.0)
    """On SIGTERM: time for batches in flight to finish before the rest is given back."""

    temperature: float = Field(default=1.0, gt=0.0, le=10.0)
    """Temperature of sampling. Log-probabilities are those of the sampled distribution."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus mass; below 1 the tail is never sampled, and cannot be learned."""
    max_new_tokens: int = Field(default=256, ge=1, le=1 << 20)
    """Longest completion."""
    max_prompt_tokens: int = Field(default=2048, ge=1, le=1 << 20)
    """A longer prompt is not cut (that would remove the tools) but reported as `error`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Mixed with the run's seed, task and draw into the seed of every rollout."""

    tool_servers: Annotated[Path, AfterValidator(checked_servers)] | None = None
    """TOML file with the MCP and HTTP tool servers that tasks may name (docs/how-to/tools.md)."""
    call_format: Literal["auto", "toolrl", "hermes", "llama3"] = "auto"
    """How calls stand in a turn of an episode; `auto` tells it by prompt and chat template."""
    episode_max_turns: int = Field(default=32, ge=1, le=1000)
    """Turns of the assistant in an episode; then it ends with finish reason `max_turns`."""
    episode_max_calls: int = Field(default=128, ge=1, le=10_000)
    """Tool calls in an episode; the turn that asks for more ends it with `tool_limit`."""
    episode_max_tokens: int | None = Field(default=None, ge=2)
    """Tokens of an episode, prompt and observations included; default: the engine's context.
    The time of an episode is `ETUDE_GENERATION_TIMEOUT_S`."""
    tool_timeout_s: float = Field(default=30.0, gt=0.0, le=3600.0)
    """A tool call that takes longer is an infrastructure failure: finish reason `timeout`."""
    tool_max_chars: int = Field(default=8192, ge=1, le=1 << 20)
    """Longest answer of a tool that the policy sees; the rest is cut."""
    parallel_tools: bool = False
    """Run the calls of one turn at the same time, show their results in one JSON text, and allow
    four turns with calls (RAG-R1); else calls run one after another."""
    parallel_calls: int = Field(default=3, ge=1, le=3)
    """Most calls of one turn under `ETUDE_PARALLEL_TOOLS`."""
    branch_roots: int = Field(default=0, ge=0, le=1024)
    """ARPO: an episode's group begins with so many rollouts, and branches of them, cloned after
    tools' answers, fill it up; 0: no branches. At most the run's group size makes sense."""
    branch_weight: float = Field(default=0.2, ge=0.0, le=10.0)
    """ARPO's w: how much a rise of the entropy after a tool's answer adds to the probability of a
    branch, which is a half without any."""

    tools_in: ToolsIn = "auto"
    """Where tools are shown: by the chat `template`, in the `system` text, in short in the `user`
    turn (for very small models), or `auto`: by the template if it shows tools."""
    explain_format: bool = True
    """Whether the system text explains the output format; off for models trained on it."""
    num_shots: int = Field(default=0, ge=0, le=3)
    """Worked examples shown before the task (`demonstrations.py`)."""
    assistant_prefill: str = Field(default="", max_length=4096)
    """Text that every completion begins with: given, not generated, but scored with the rest."""

    weights_root: Path = Path(".etude/weights")
    """Volume shared with the trainer; weights are read strictly below it, from nowhere else."""
    weight_channel: Literal["disk", "gloo", "nccl"] = "disk"
    """How trained weights come: read from that volume, or sent by the trainer from process to
    process (what is not sent is read). The trainer needs the same value; LoRA adapters are read
    either way."""
    trainer_url: str | None = Field(default=None, pattern=r"^https?://", validate_default=True)
    """Base URL of the trainer's small API, for `gloo` and `nccl`."""
    transfer_key: SecretStr | None = None
    """What the trainer asks for before it sends weights, where it asks for something."""
    parity_threshold: float = Field(default=1e-3, gt=0.0)
    """Largest accepted difference in nats between the engine's and the trainer's log-probabilities
    after a load; above it the worker stops. fp32 on both sides stays near 1e-5."""
    require_parity: bool = True
    """Whether trained weights without the trainer's probes (`parity.json`) are refused."""

    rollout_host: str = "127.0.0.1"
    """Address of the service's own small API. Anything but loopback needs `ETUDE_API_KEY`."""
    rollout_port: int = Field(default=8322, ge=0, le=65535)
    """Port of the service's own small API; 0 takes a free one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log events that are shown."""
    traces_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    """OpenTelemetry collector (OTLP over HTTP) that traces go to, `http://host:4318`; unset: none.
    Needs the extra `traces`."""
    traces_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the traces that are kept; the same for all services."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _from_the_file(cls, given: object, info: ValidationInfo) -> object:
        return key_given(given, info.data.get("api_key_file"))

    @field_validator("rollout_host")
    @classmethod
    def _closed(cls, host: str, info: ValidationInfo) -> str:
        if host not in ("127.0.0.1", "::1", "localhost") and info.data.get("api_key") is None:
            raise ValueError(f"{host} can be reached from other machines: set ETUDE_API_KEY")
        return host

    @field_validator("trainer_url")
    @classmethod
    def _channel_fits(cls, url: str | None, info: ValidationInfo) -> str | None:
        channel = info.data.get("weight_channel", "disk")
        if channel != "disk" and url is None:
            raise ValueError(f"weight channel {channel} asks the trainer for weights")
        if channel == "nccl" and info.data.get("engine") != "vllm":
            raise ValueError("weight channel nccl goes from GPU to GPU: set ETUDE_ENGINE=vllm")
        return url

    def vllm_options(self) -> VllmOptions:
        """How a vLLM server of our own is started."""
        return VllmOptions(
            model_dir=self.model_path,
            port=self.vllm_port,
            python=self.vllm_python or Path(sys.executable),
            dtype=self.dtype,
            max_model_len=self.vllm_max_model_len,
            max_num_seqs=self.engine_max_rows,
            kv_cache_bytes=self.vllm_kv_cache_bytes,
            max_lora_rank=self.vllm_max_lora_rank,
        )

    @property
    def sampling(self) -> Sampling:
        """The distribution that rollouts are sampled from."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_p)

    @property
    def turn_options(self) -> TurnOptions:
        """Limits and options of episodes."""
        roots = self.branch_roots
        return TurnOptions(
            call_format=self.call_format,
            max_turns=self.episode_max_turns,
            max_calls=self.episode_max_calls,
            max_tokens=self.episode_max_tokens,
            call_timeout_s=self.tool_timeout_s,
            max_observation_chars=self.tool_max_chars,
            parallel_tools=self.parallel_tools,
            parallel_calls=self.parallel_calls,
            branching=Branching(roots, self.branch_weight) if roots else None,
        )

    @property
    def prompt_options(self) -> PromptOptions:
        """How prompts are made."""
        return PromptOptions(
            tools_in=self.tools_in,
            explain_format=self.explain_format,
            num_shots=self.num_shots,
            prefill=self.assistant_prefill,
        )
