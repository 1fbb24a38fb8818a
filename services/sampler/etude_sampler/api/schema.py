"""OpenAPI: request bodies that are read raw, problem documents on every call, nothing else."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from etude_proto import CONTRACT_VERSION
from etude_proto.cargo import FRAME_MEDIA_TYPE, SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import Problem, Report, TaskCreate, TrainingBatch

from .access import OPEN_CALLS, needed
from .problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Unique per logical call; a retry with the same key changes nothing twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key; the word beside `bearer` is the scope that a call needs.",
    }
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for code, text in (("4XX", "Refused; see `code`."), ("5XX", "Failed; see `retryable`."))
}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a mutating call with a JSON body."""
    return {
        "parameters": [_KEY_PARAMETER],
        "requestBody": {"required": True, "content": {"application/json": _body(model)}},
    }


def no_body() -> dict[str, Any]:
    """`openapi_extra` of a mutating call without a body."""
    return {"parameters": [_KEY_PARAMETER]}


def report_body() -> dict[str, Any]:
    """`openapi_extra` of a report: JSON, or one group as safetensors."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {"application/json": _body(Report), SAFETENSORS_MEDIA_TYPE: binary}
    return {
        "parameters": [_KEY_PARAMETER],
        "requestBody": {"required": True, "content": content},
    }


def lines_body() -> dict[str, Any]:
    """`openapi_extra` of an import: one `TaskCreate` a line."""
    return {
        "parameters": [_KEY_PARAMETER],
        "requestBody": {"required": True, "content": {"application/x-ndjson": _body(TaskCreate)}},
    }


def answer(
    model: type[BaseModel], status: int = 200, *, description: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a call that answers with encoded JSON."""
    content = {"application/json": _body(model)}
    return {
        status: {"description": description or model.__name__, "content": content},
        **PROBLEMS,
    }


def frame_answer() -> dict[int | str, dict[str, Any]]:
    """`responses` of a call that answers with a training batch's frame."""
    text = "A frame: 8 bytes of manifest length, the manifest (`TrainingBatch`), the bodies."
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": text, "content": {FRAME_MEDIA_TYPE: binary}}, **PROBLEMS}


def cargo_answer() -> dict[int | str, dict[str, Any]]:
    """`responses` of a call that answers with a group's trajectories."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {SAFETENSORS_MEDIA_TYPE: binary}
    return {200: {"description": "The group's safetensors.", "content": content}, **PROBLEMS}


def install(app: FastAPI, models: list[type[BaseModel]]) -> None:
    """Replace `app.openapi` by one that knows our bodies and only our problems."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=CONTRACT_VERSION,
                description=app.description,
                routes=app.routes,
            )
            wanted: list[type[BaseModel]] = [*models, Problem, Report, TaskCreate, TrainingBatch]
            _, extra = models_json_schema(
                [(model, "validation") for model in dict.fromkeys(wanted)], ref_template=_REF
            )
            parts = schema.setdefault("components", {}).setdefault("schemas", {})
            parts.update(extra.get("$defs", {}))
            for name in ("HTTPValidationError", "ValidationError"):
                parts.pop(name, None)
            schema["components"]["securitySchemes"] = _SCHEMES
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
                    name = operation["operationId"]
                    scopes = [] if name in OPEN_CALLS else [{"bearer": [needed(name).value]}]
                    operation["security"] = scopes
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
