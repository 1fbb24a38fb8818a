"""Type names of tool lists as JSON Schema."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from etude_proto.rows.argument_types import object_schema, to_json_schema, type_schema
from etude_proto.rows.stream import JsonObject


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("dict", {"type": "object"}),
        ("float", {"type": "number"}),
        ("tuple", {"type": "array"}),
        ("any", {}),
        ("String", {"type": "string"}),
        ("str, optional", {"type": "string"}),
        ("List[int]", {"type": "array", "items": {"type": "integer"}}),
        (
            "List[List[float]]",
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        ),
        ("List[Union[int, float]]", {"type": "array", "items": {"type": ["integer", "number"]}}),
        (
            "Tuple[float, str]",
            {"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]},
        ),
        ("Tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        ("Dict[str, bool]", {"type": "object", "additionalProperties": {"type": "boolean"}}),
        ("Optional[int]", {"type": ["integer", "null"]}),
        ("int | None", {"type": ["integer", "null"]}),
        ("typing.List", {"type": "array"}),
        ("Union[List[int], str]", {"anyOf": [type_schema("List[int]"), {"type": "string"}]}),
        ("Union[int, Any]", {}),
        ("Optional[Optional[int]]", {"type": ["integer", "null"]}),
        ("Callable[[float], float]", None),
        ("List[Callable]", None),
        ("List[int", None),
        ("str[int]", None),
        ("", None),
        ("Thing", None),
    ],
)
def test_type_names(name: str, schema: JsonObject | None) -> None:
    assert type_schema(name) == schema


def test_a_whole_description() -> None:
    described: JsonObject = {
        "type": "dict",
        "required": ["a", "a", 3],
        "properties": {
            "type": {"type": "float", "default": 1.5},
            "a": {"type": ["string", "null"], "enum": "x"},
            "b": {"type": "tuple", "items": [{"type": "float"}, {"type": "any"}]},
            "c": {"type": "Callable", "description": "kept", "optional": True},
            "d": "no schema",
            "e": {"type": "dict", "additionalProperties": {"type": "float"}, "required": True},
            "f": {"type": "List[int]", "items": {"type": "float"}},
            "g": {"anyOf": [{"type": "float"}, {"type": "dict"}], "allOf": []},
            "h": {"type": "array", "items": []},
        },
    }
    schema = to_json_schema(described)
    assert schema == {
        "type": "object",
        "required": ["a"],
        "properties": {
            "type": {"type": "number", "default": 1.5},
            "a": {"type": ["string", "null"], "enum": ["x"]},
            "b": {"type": "array", "prefixItems": [{"type": "number"}, {}]},
            "c": {"description": "kept", "optional": True},
            "d": {},
            "e": {"type": "object", "additionalProperties": {"type": "number"}},
            "f": {"type": "array", "items": {"type": "number"}},
            "g": {"anyOf": [{"type": "number"}, {"type": "object"}]},
            "h": {"type": "array"},
        },
    }
    Draft202012Validator.check_schema(schema)
    assert to_json_schema(schema) == schema, "mapping a schema again changes nothing"


_NAMES = st.recursive(
    st.sampled_from(["int", "float", "str", "bool", "dict", "any", "None", "Thing", "list"]),
    lambda inner: st.one_of(
        inner.map("List[{}]".format),
        inner.map("Optional[{}]".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda names: f"Union[{', '.join(names)}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda names: f"Tuple[{', '.join(names)}]"),
    ),
)


@given(st.one_of(_NAMES, st.text(alphabet="aTL[],| .", max_size=12)))
def test_every_name_gives_a_valid_schema_or_none(name: str) -> None:
    Draft202012Validator.check_schema(object_schema({"x": {"type": name}}))
