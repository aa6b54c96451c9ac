"""Which fields a JSON schema has, with what a form has to know of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from tsuzuku.core.trees import Tree, is_list, is_tree

Kind = Literal["bool", "int", "float", "text", "choice", "list", "mapping", "section", "other"]
TYPES: dict[str, Kind] = {
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "text",
    "array": "list",
    "object": "section",
}


@dataclass(frozen=True)
class Field:
    """One setting. `path` is its dotted path below the schema."""

    path: str
    kind: Kind
    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    optional: bool = False
    """Whether it may be null."""
    fields: tuple[Field, ...] = field(default=())
    """Those of a section."""
    label: str = ""
    """What people read."""

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def fields(schema: Mapping[str, Any], values: Mapping[str, Any]) -> list[Field]:
    """The settings of a schema and, after them, what `values` has besides.

    `values` go before the schema's defaults.
    """
    return list(_fields(schema, values, "", schema.get("$defs") or {}))


def flat(found: list[Field]) -> Iterator[Field]:
    """All fields but sections that are never null: of those, what they have."""
    for one in found:
        if one.kind == "section" and not one.optional:
            yield from flat(list(one.fields))
        else:
            yield one


def _fields(
    schema: Mapping[str, Any], values: Mapping[str, Any], prefix: str, named: Tree
) -> Iterator[Field]:
    properties: Tree = schema.get("properties") or {}
    for name, described in properties.items():
        yield _field(described, prefix + name, values.get(name, _ABSENT), named)
    for name, value in values.items():
        if name not in properties:
            yield _field(_guessed(value), prefix + name, value, named)


def _field(described: Tree, path: str, value: Any, named: Tree) -> Field:
    shape, optional = _shape(described, named)
    kind: Kind = "choice" if "enum" in shape else TYPES.get(str(shape.get("type")), "other")
    default = described.get("default", shape.get("default")) if value is _ABSENT else value
    inner: tuple[Field, ...] = ()
    if kind == "section" and shape.get("additionalProperties") and not shape.get("properties"):
        kind = "mapping"  # whose names are free
    elif kind == "section":
        held = default if is_tree(default) else {}
        inner = tuple(_fields(shape, held, f"{path}.", named))
        kind = "section" if inner else "other"
    least, most = _bounds(shape, whole=kind == "int")
    return Field(
        path=path,
        kind=kind,
        default=default,
        help=str(described.get("description") or shape.get("description") or ""),
        choices=tuple(cast("list[Any]", shape.get("enum") or [])),
        least=least,
        most=most,
        optional=optional,
        fields=inner,
    )


def _shape(described: Tree, named: Tree) -> tuple[Tree, bool]:
    """The schema itself, behind references and without its null, and whether that was there."""
    if "$ref" in described:
        found: Tree = named.get(str(described["$ref"]).rpartition("/")[2]) or {}
        return _shape({**found, **{k: v for k, v in described.items() if k != "$ref"}}, named)
    either = described.get("anyOf") or described.get("oneOf")
    if is_list(either):
        parts = [cast(Tree, one) for one in either]
        others = [one for one in parts if one.get("type") != "null"]
        optional = len(others) < len(parts)
        if len(others) == 1:
            return _shape(others[0], named)[0], optional
        return {}, optional
    types = described.get("type")
    if is_list(types):
        others = [one for one in types if one != "null"]
        only = others[0] if len(others) == 1 else None
        return {**described, "type": only}, "null" in types
    if "const" in described:
        return {**described, "enum": [described["const"]]}, False
    return described, False


def _bounds(shape: Tree, *, whole: bool) -> tuple[float | None, float | None]:
    """The least and the most; numbers with a fraction may not reach what is exclusive, which is
    for the server to say."""
    step = 1 if whole else 0
    least = shape.get("minimum", shape.get("ge"))
    beyond = shape.get("exclusiveMinimum", shape.get("gt"))
    most = shape.get("maximum", shape.get("le"))
    below = shape.get("exclusiveMaximum", shape.get("lt"))
    if least is None and beyond is not None:
        least = beyond + step
    if most is None and below is not None:
        most = below - step
    return least, most


def _guessed(value: Any) -> Tree:
    return {"type": _PLAIN.get(cast("type[Any]", type(value)))}


_ABSENT: Any = object()
_PLAIN: dict[type[Any], str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
