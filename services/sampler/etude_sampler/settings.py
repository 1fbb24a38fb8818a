"""Settings of the sampler: deployment only, read once, from `ETUDE_*` variables.

Curricula, group sizes and limits belong to runs and arrive over HTTP.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etude_proto.places import place_of

from .database_url import async_url


class Settings(BaseSettings):
    """Where the sampler listens, what it connects to, and what it may use."""

    model_config = SettingsConfigDict(
        env_prefix="ETUDE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs a key (`ETUDE_API_KEYS`, `etude keys`)."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that serve; all are equal, any of them can answer any call."""
    database_url: str | None = None
    """PostgreSQL, `postgresql://user:password@host/name`; unset: embedded."""
    redis_url: str | None = None
    """Redis or Valkey, `redis://host:6379/0` or `unix:///path`; unset: embedded."""
    data_dir: Path = Path(".etude")
    """Folder of the embedded servers' data."""
    api_keys: SecretStr = SecretStr("")
    """Bearer keys with scope admin, separated by commas; without any key none is asked for, and
    only this machine is answered. Further keys, with scopes: `etude keys`."""
    api_keys_file: Path | None = None
    """File with bearer keys with scope admin, one a line; read beside `ETUDE_API_KEYS`."""
    rate_per_s: float = Field(default=1000.0, ge=0.0, le=1e6)
    """Calls a second that one key may make for ever, on all replicas together; 0: no bound."""
    rate_burst: int = Field(default=2000, ge=1, le=10**7)
    """Calls that one key may make at once; they come back at `ETUDE_RATE_PER_S`."""
    weights_roots: str = ""
    """Where announced model weights may lie, separated by commas: folders, or URI prefixes such as
    `s3://bucket/run`. Empty: any path or `file://` URI, and no other scheme."""
    pool_size: int = Field(default=16, ge=2, le=256)
    """Most PostgreSQL connections of one process."""
    redis_pool_size: int = Field(default=64, ge=2, le=1024)
    """Most Redis connections of one process, heartbeats apart."""
    dependency_timeout_s: float = Field(default=10.0, ge=0.5, le=120.0)
    """Longest wait for PostgreSQL or Redis before a call answers 503."""
    max_body_bytes: int = Field(default=64 << 20, ge=1 << 16)
    """Largest request body after decompression; imports are streamed and not bound by it."""
    task_cache_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Memory for encoded tasks in one process."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least severe events that are logged."""
    traces_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    """OpenTelemetry collector (OTLP over HTTP) that traces go to, `http://host:4318`; unset: none.
    Needs the extra `traces`."""
    traces_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the traces that are kept; the same for all services."""

    @field_validator("database_url")
    @classmethod
    def _for_the_driver(cls, url: str | None) -> str | None:
        return None if url is None else async_url(url)

    @field_validator("weights_roots")
    @classmethod
    def _roots(cls, roots: str) -> str:
        for root in filter(None, map(str.strip, roots.split(","))):
            place_of(root)
            if not root.startswith("/") and ":" not in root:
                raise ValueError(f"{root!r} is neither an absolute path nor a URI")
        return roots

    def accepted_keys(self) -> list[str]:
        """All accepted bearer keys.

        Raises:
            OSError: the keys file cannot be read.
        """
        found = self.api_keys.get_secret_value().replace(",", "\n")
        if self.api_keys_file is not None:
            found += "\n" + self.api_keys_file.read_text("utf-8")
        return [key.strip() for key in found.splitlines() if key.strip()]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def weights_root_list(self) -> tuple[str, ...]:
        """`weights_roots`, one by one."""
        return tuple(root.strip() for root in self.weights_roots.split(",") if root.strip())
