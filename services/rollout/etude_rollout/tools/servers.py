"""The worker's table of tool servers: which names tasks may use, and what is behind them.

A TOML file of the operator (`ETUDE_TOOL_SERVERS`), one table a server. Tasks come over HTTP and
name servers only: never an address, never a command. Read by `opening.py` and, to refuse a bad file
at the start, by the settings.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic import model_validator as validator

from etude_proto.v1 import Tool
from etude_proto.v1.environments import ServerName

_Url = Annotated[str, Field(pattern=r"^https?://")]


class _Server(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every call, for example `Authorization`."""
    use_proxy: bool = False
    """Whether proxies and certificates named in the environment are used."""


class HttpServer(_Server):
    """Calls are POSTed to one address."""

    kind: Literal["http"]
    url: _Url
    tools: list[Tool] = Field(default_factory=list)
    """What the server offers; empty: the task's own tools."""


class McpServer(_Server):
    """An MCP server: started for every rollout (`command`), or reached over HTTP (`url`)."""

    kind: Literal["mcp"]
    command: list[str] = Field(default_factory=list)
    env: dict[str, SecretStr] = Field(default_factory=dict)
    """Environment variables of the command, beside a few harmless ones."""
    url: _Url | None = None

    @validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == (self.url is not None):
            raise ValueError("an MCP server has either a command or a url")
        return self


Server = Annotated[HttpServer | McpServer, Field(discriminator="kind")]
Servers = dict[str, HttpServer | McpServer]
_TABLE = TypeAdapter(dict[ServerName, Server])


def read_servers(path: Path) -> Servers:
    """The table of a file.

    Raises:
        ValueError: it cannot be read, or says something else; the text is one line.
    """
    try:
        return _TABLE.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {place}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def checked_servers(path: Path) -> Path:
    """The path, if the file can be used. Raises `ValueError`."""
    read_servers(path)
    return path
