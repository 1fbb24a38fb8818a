"""The committed contract as tests see it: examples and OpenAPI documents of `proto/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from etude_proto import v1

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "proto" / "examples" / "v1"
OPENAPI = ROOT / "proto" / "openapi"

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Example:
    """One committed example: `RunCreate.parts.json` is a `RunCreate`."""

    name: str
    model: type[BaseModel]
    text: str

    @property
    def is_request(self) -> bool:
        """Whether clients send it."""
        return issubclass(self.model, v1.Request)


def examples() -> list[Example]:
    """All committed examples, by name."""
    found = []
    for path in sorted(EXAMPLES.glob("*.json")):
        model = getattr(v1, path.name.split(".")[0])
        assert issubclass(model, BaseModel), path.name
        found.append(Example(path.stem, model, path.read_text()))
    return found


def example(name: str) -> str:
    """The text of one example, `RunCreate.parts`."""
    return (EXAMPLES / f"{name}.json").read_text()


def openapi(service: str) -> JsonObject:
    """The committed document of a service, parsed."""
    document = json.loads((OPENAPI / f"{service}.v1.json").read_text())
    assert isinstance(document, dict)
    return document


def operations(document: JsonObject) -> dict[str, tuple[str, str]]:
    """operationId -> method (upper case) and path template of an OpenAPI document."""
    found: dict[str, tuple[str, str]] = {}
    paths = document["paths"]
    assert isinstance(paths, dict)
    for path, item in paths.items():
        for method, operation in item.items():
            identifier = operation["operationId"]
            assert identifier not in found, f"operationId {identifier} is used twice"
            found[identifier] = (method.upper(), path)
    return found
