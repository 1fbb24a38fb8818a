"""Examples: one for every message, valid by OpenAPI too, and never changed once committed."""

from __future__ import annotations

import hashlib
import json

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from support.contract import EXAMPLES, Example, JsonObject, examples

RESOURCES = DRAFT202012.create_resource
LOCK = EXAMPLES / "examples.lock"
ALL = examples()


def messages(document: JsonObject) -> set[str]:
    """Models that travel as a whole: bodies of requests and answers, lines of imports."""
    found: set[str] = set()

    def visit(node: object) -> None:
        if isinstance(node, dict):
            schema = node.get("schema")
            if isinstance(schema, dict) and "$ref" in schema:
                found.add(str(schema["$ref"]).rsplit("/", 1)[-1])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(document["paths"])
    return found


def test_every_message_of_the_sampler_has_an_example(documents: dict[str, JsonObject]) -> None:
    wanted = messages(documents["sampler"]) | {"TrainingBatch"}  # travels inside a frame
    assert wanted - {case.model.__name__ for case in ALL} == set()


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_examples_are_valid_by_openapi(case: Example, documents: dict[str, JsonObject]) -> None:
    registry = Registry().with_resource("urn:sampler", RESOURCES(documents["sampler"]))
    reference = {"$ref": f"urn:sampler#/components/schemas/{case.model.__name__}"}
    jsonschema.Draft202012Validator(reference, registry=registry).validate(json.loads(case.text))


def test_examples_are_append_only() -> None:
    """`examples.lock` remembers every example; a new one is added there, an old one never edited.

    What was valid once must stay valid: other people's requests look like these.
    """
    locked = json.loads(LOCK.read_text())
    have = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in EXAMPLES.glob("*.json")
    }
    assert have == locked
    assert list(locked) == sorted(locked)
