"""Deployment settings of the trainer, from the environment (`ETUDE_*`); read once by `cli.py`.

How a step is computed is `config.py`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etude_proto.keys import checked, key_given


class Settings(BaseSettings):
    """Where the trainer runs: addresses, keys, folders, device."""

    model_config = SettingsConfigDict(
        env_prefix="ETUDE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    sampler_url: str = "http://127.0.0.1:8321"
    """Base URL of a sampler, or of the address in front of several."""
    api_key_file: Annotated[Path, AfterValidator(checked)] | None = None
    """File with that key alone, instead of `ETUDE_API_KEY`: how secrets are mounted."""
    api_key: SecretStr | None = Field(default=None, validate_default=True)
    """Bearer key, where the sampler wants one."""
    run: str | None = None
    """Id or name of the run to train."""
    weights_root: Path = Path(".etude/weights")
    """Folder shared with the rollout workers; versions are published below it, run by run."""
    trainer_dir: Path = Path(".etude/trainer")
    """The trainer's own folder: model checkpoints and metrics, run by run."""
    validation_dir: Path = Path(".etude/eval")
    """Folder where `etude-rollout eval --run NAME` writes what it found, `validation-NAME.jsonl`;
    drawn beside the training metrics."""
    trainer_model: Path | None = None
    """Directory of the model to start from (config, tokenizer, safetensors)."""
    trainer_config: Path | None = None
    """Training configuration (TOML); without it the preset alone."""
    trainer_name: str = Field(default="", max_length=64)
    """Name in leases and logs; empty for one made from the host's name."""
    trainer_host: str = "127.0.0.1"
    """Address of the trainer's own small API."""
    trainer_port: int = Field(default=8323, ge=0, le=65535)
    """Port of the trainer's own small API; 0 picks a free one."""
    trainer_device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    trainer_threads: int = Field(default=0, ge=0, le=4096)
    """Compute threads on a CPU; 0 leaves it to torch."""
    trainer_wandb: Literal["off", "offline", "online"] = "off"
    """Send the metrics to Weights & Biases as well: `offline` writes them below the trainer's
    folder, for `wandb sync`. Needs the package wandb, which is not installed with the trainer."""
    traces_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    """OpenTelemetry collector (OTLP over HTTP) that traces go to, `http://host:4318`; unset: none.
    Needs the extra `traces`."""
    traces_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the traces that are kept; the same for all services."""

    weight_channel: Literal["disk", "gloo", "nccl"] = "disk"
    """How weights reach the engines: from the shared volume, or sent from process to process (the
    volume stays the durable copy). The rollout workers need the same value."""
    transfer_host: str = "127.0.0.1"
    """For `gloo` and `nccl`: this machine's address as the engines reach it; listened on."""
    transfer_port: int = Field(default=0, ge=0, le=65535)
    """For `gloo` and `nccl`: port of the store where processes meet; 0 picks a free one."""
    transfer_timeout_s: float = Field(default=60.0, gt=0.0, le=3600.0)
    """For `gloo` and `nccl`: how long either side waits for the other at any point."""
    transfer_key: SecretStr | None = Field(default=None, validate_default=True)
    """For `gloo` and `nccl`: what workers must send to be given weights; theirs is the same. Needed
    when `ETUDE_TRANSFER_HOST` is not loopback."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _from_the_file(cls, given: object, info: ValidationInfo) -> object:
        return key_given(given, info.data.get("api_key_file"))

    @field_validator("transfer_key")
    @classmethod
    def _closed(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        host = info.data.get("transfer_host", "127.0.0.1")
        is_open = host not in ("127.0.0.1", "::1", "localhost")
        if info.data.get("weight_channel") != "disk" and is_open and key is None:
            raise ValueError(f"{host} can be reached from other machines: workers need a key")
        return key

    def name(self) -> str:
        """The trainer's name on the wire."""
        if self.trainer_name:
            return self.trainer_name
        host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname())
        return f"trainer-{host or 'local'}"[:128]
