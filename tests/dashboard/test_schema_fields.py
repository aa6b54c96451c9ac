"""What a form makes of a JSON schema."""

from __future__ import annotations

from typing import Any

import pytest

from tsuzuku.core.settings import TrainingSettings
from tsuzuku.dashboard import schema_form
from tsuzuku.dashboard.schema_fields import Field, fields, flat
from tsuzuku.dashboard.schema_form import (
    Form,
    as_text,
    from_text,
    mapping_as_text,
    mapping_from_text,
)

SCHEMA: dict[str, Any] = {
    "$defs": {
        "Inner": {
            "type": "object",
            "description": "Of its kind.",
            "properties": {"deep": {"type": "integer", "default": 1}},
        }
    },
    "properties": {
        "flag": {"type": "boolean", "default": True, "description": "Whether."},
        "count": {"type": "integer", "default": 3, "exclusiveMinimum": 0, "maximum": 9},
        "rate": {"type": "number", "default": 0.5, "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "size": {"enum": ["S", "M"], "type": "string", "default": "S"},
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "most": {"anyOf": [{"type": "integer", "ge": 1}, {"type": "null"}], "default": 10},
        "sizes": {"type": "array", "items": {"type": "integer"}, "default": [4]},
        "words": {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
            "default": None,
        },
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 1},
        "inner": {"$ref": "#/$defs/Inner"},
        "perhaps": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}], "default": None},
        "old": {"type": ["number", "null"], "default": None},
        "only": {"const": "this", "default": "this"},
        "free": {"type": "object", "additionalProperties": {"type": "number"}, "default": {}},
    },
}


@pytest.fixture(scope="module")
def found() -> dict[str, Field]:
    return {
        one.name: one
        for one in fields(SCHEMA, {"count": 5, "own": 1.5, "more": [1], "free": {"a": 2}})
    }


@pytest.mark.parametrize(
    ("name", "kind", "default", "optional"),
    [
        ("flag", "bool", True, False),
        ("count", "int", 5, False),  # what the workspace sets
        ("rate", "float", 0.5, False),
        ("size", "choice", "S", False),
        ("name", "text", None, True),
        ("most", "int", 10, True),
        ("sizes", "list", [4], False),
        ("words", "list", None, True),
        ("either", "other", 1, False),
        ("inner", "section", None, False),
        ("perhaps", "section", None, True),
        ("old", "float", None, True),
        ("only", "choice", "this", False),
        ("free", "mapping", {"a": 2}, False),
        ("own", "float", 1.5, False),  # not in the schema
        ("more", "list", [1], False),
    ],
)
def test_kinds(found: dict[str, Field], name: str, kind: str, default: Any, optional: bool) -> None:
    one = found[name]
    assert (one.kind, one.default, one.optional) == (kind, default, optional)


def test_bounds_and_descriptions(found: dict[str, Field]) -> None:
    assert (found["count"].least, found["count"].most) == (1, 9)
    assert (found["rate"].least, found["rate"].most) == (0, 1)
    assert found["most"].least == 1
    assert found["flag"].help == "Whether."
    assert found["inner"].help == "Of its kind."
    assert found["size"].choices == ("S", "M")
    assert [one.path for one in found["perhaps"].fields] == ["perhaps.deep"]


def test_every_training_setting_has_a_field() -> None:
    schema, values = (
        TrainingSettings.model_json_schema(),
        TrainingSettings().model_dump(mode="json"),
    )
    paths = {one.path: one for one in flat(fields(schema, values))}
    assert {"seed", "checkpoint.save_freq", "restart.policy", "early_stopping"} <= paths.keys()
    assert not [one.path for one in paths.values() if one.kind == "other"]
    assert paths["checkpoint.keep_last_n"].default == 10


@pytest.mark.parametrize(
    ("text", "listed", "value"),
    [
        ("0.9, 0.999", True, [0.9, 0.999]),
        ("[1, 2]", True, [1, 2]),
        ("a, b", True, ["a", "b"]),
        ("", False, None),
        ("", True, None),
        ("3", False, 3),
        ("three", False, "three"),
        ('{"a": 1}', False, {"a": 1}),
    ],
)
def test_values_written_as_text(text: str, listed: bool, value: Any) -> None:
    assert from_text(text, listed=listed) == value


@pytest.mark.parametrize(
    "value", [[0.9, 0.999], ["a", "b"], ["a,b"], ["1", "x"], [1], [], 7, {"a": [1]}]
)
def test_text_and_back(value: Any) -> None:
    assert from_text(as_text(value), listed=isinstance(value, list)) == value


def test_an_empty_list_is_no_null_where_none_may_be() -> None:
    assert from_text("", listed=True, optional=False) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("GPU: 1, CPU: 8", {"GPU": 1, "CPU": 8}),
        ("GPU=0.5", {"GPU": 0.5}),
        ("GPU: 1,", {"GPU": 1}),
        ('{"GPU": 1}', {"GPU": 1}),
        ("GPU: many", {"GPU": "many"}),  # which the server judges
        ("GPU", "GPU"),
        (": 1", ": 1"),
        ("{GPU", "{GPU"),
        ("  ", {}),
    ],
)
def test_mappings_written_as_text(text: str, value: Any) -> None:
    assert mapping_from_text(text) == value


@pytest.mark.parametrize(
    "value", [{}, {"GPU": 1, "CPU": 0.5}, {"a, b": 1}, {"a": {"b": 1}}, {"a": None}, {"a:b": "c"}]
)
def test_a_mapping_as_text_and_back(value: Any) -> None:
    assert mapping_from_text(mapping_as_text(value)) == value


@pytest.mark.parametrize(
    ("held", "typed", "sent"),
    [
        ({}, {"GPU": 1}, {"GPU": 1}),
        ({"GPU": 1, "CPU": 2}, {"CPU": 3}, {"GPU": None, "CPU": 3}),
        ({"GPU": 1}, {}, {"GPU": None}),
        ({"GPU": 1}, "GPU", "GPU"),
    ],
)
def test_names_that_were_taken_out_of_a_mapping_go(
    monkeypatch: pytest.MonkeyPatch, held: Any, typed: Any, sent: Any
) -> None:
    """The server lays what is sent over what there is."""
    monkeypatch.setattr(schema_form.typed, "value", lambda path, default: typed)
    schema = {"properties": {"free": SCHEMA["properties"]["free"]}}
    assert Form("x.", schema, {"free": held}).changed() == {"free": sent}
