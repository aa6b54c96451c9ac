"""The text of docs/http.md, from the OpenAPI document of the server."""

from __future__ import annotations

import ast
import inspect
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsuzuku.core.workspace import Workspace
from tsuzuku.server.app import create_app

CORE = Path(__file__).parent.parent / "src" / "tsuzuku" / "core"

HEAD = """\
# HTTP API

Every call of the server, as its OpenAPI document describes it. A running server has that document
at `/openapi.json`, and a page to try the calls at `/docs`. How the calls work together:
[server.md](server.md). Who may use them: [security.md](security.md).

- Bodies are JSON, except for `POST /api/inference`, which takes a form (`multipart/form-data`).
  Fields that a call does not know are refused, and so are NaN and Infinity.
- Times are in seconds since the Unix epoch. Sizes are in bytes unless the name says otherwise.
- A run is named by its id (`2026-11-21_19-20-14`). Where a checkpoint is named in a body, its file
  name means the newest run that has it; `run_id/name` is always definite.
- Every error is a [Problem](#problem): `{"detail": "...", "code": "...", "hint": "..."}`. What the
  statuses mean is [below](#errors); what the guard refuses before a call is reached, in
  [security.md](security.md#what-a-refusal-means).
- Every answer has the header `X-Request-ID`; the line of the log about this request has it too.
"""

ELSEWHERE = """\
## Without a description in OpenAPI

| address | what it is |
|---|---|
| `GET /ws` (WebSocket) | the events, see [server.md](server.md#websocket) |
| `GET /` | leads to `/docs` |
| `GET /docs` | a page to read and try the calls; it needs nothing from the internet |
| `GET /openapi.json` | the OpenAPI document |
| `GET /login`, `POST /login`, `POST /logout` | the token's form, where one is asked for |
"""

TITLES = {
    "train": "Training",
    "watch": "Watching",
    "checkpoints": "Checkpoints",
    "models": "Models and inference",
    "datasets": "Data sets",
    "about": "Server and machine",
}

Schema = dict[str, Any]


def http() -> str:
    """The text of http.md, without its first line."""
    document = openapi()
    schemas: dict[str, Schema] = document["components"]["schemas"]
    calls = list(_calls(document))
    parts = [HEAD, _index(calls)]
    for tag, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_call(m, p, c, schemas) for m, p, c in calls if c["tags"][0] == tag]
    parts += [_errors(calls), ELSEWHERE]
    parts.append("## Answers\n")
    notes = _attribute_docstrings()
    parts += [_answer(name, schemas[name], notes) for name in sorted(_answers(calls, schemas))]
    return "\n".join(parts)


def openapi() -> Schema:
    """The server's OpenAPI document, from an application that is never started."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text("{}", encoding="utf-8")
        app = create_app(Workspace(Path(folder)))
        try:
            return app.openapi()
        finally:
            app.state.context.store.close()


def _calls(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call


def _index(calls: list[tuple[str, str, Schema]]) -> str:
    lines = ["| call | does |", "|---|---|"]
    for method, path, call in calls:
        anchor = "".join(c for c in f"{method} {path}".lower() if c.isalnum() or c in "_- ")
        does = call["description"].split("\n\n")[0]
        lines.append(f"| [`{method} {path}`](#{anchor.replace(' ', '-')}) | {_cell(does)} |")
    return "\n".join(lines) + "\n"


def _call(method: str, path: str, call: Schema, schemas: dict[str, Schema]) -> str:
    lines = [f"### {method} {path}", "", call["description"], ""]
    if rows := [_parameter(p) for p in call.get("parameters", [])]:
        lines += ["| parameter | in | type | default | meaning |", "|---|---|---|---|---|"]
        lines += [*rows, ""]
    media, body = next(iter(call.get("requestBody", {}).get("content", {}).items()), ("", {}))
    if body:
        fields = _resolved(body["schema"], schemas)
        form = media.startswith("multipart")
        lines += [f"| {'form field' if form else 'field'} | type | default | meaning |"]
        lines += ["|---|---|---|---|", *_fields(fields), ""]
        if not call["requestBody"].get("required") and not form:
            lines += ["The body may be left out.", ""]
        for example in fields.get("examples", []):
            lines += ["```json", json.dumps(example, ensure_ascii=False), "```", ""]
    lines += ["| answer | body | meaning |", "|---|---|---|"]
    good = {status: r for status, r in call["responses"].items() if status < "400"}
    lines += [_response(status, r) for status, r in good.items()]
    if errors := [status for status in call["responses"] if status not in good]:
        lines += ["", f"[Errors](#errors): {', '.join(sorted(errors))}"]
    return "\n".join(lines) + "\n"


def _errors(calls: list[tuple[str, str, Schema]]) -> str:
    """What every error means, which is the same for all calls."""
    fault = "A fault of the server; its log has the request id that the answer names."
    meanings: dict[str, set[str]] = {"500": {fault}}
    for _, _, call in calls:
        for status, response in call["responses"].items():
            if status >= "400":
                meanings.setdefault(status, set()).add(_cell(response["description"]))
    lines = ["## Errors", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {s} | {' '.join(sorted(meanings[s]))} |" for s in sorted(meanings)]
    return "\n".join(lines) + "\n"


def _parameter(parameter: Schema) -> str:
    schema = parameter["schema"]
    default = "required" if parameter["required"] else _default(schema)
    meaning = parameter.get("description") or schema.get("description", "")
    cells = [f"`{parameter['name']}`", parameter["in"], _type(schema), default, _cell(meaning)]
    return f"| {' | '.join(cells)} |"


def _fields(schema: Schema, notes: dict[str, str] | None = None) -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required and notes is None else _default(field)
        meaning = field.get("description") or (notes or {}).get(name, "")
        cells = [f"`{name}`", _type(field), *([default] if notes is None else []), _cell(meaning)]
        yield f"| {' | '.join(cells)} |"


def _response(status: str, response: Schema) -> str:
    media, body = next(iter(response.get("content", {}).items()), ("", {}))
    kind = _type(body["schema"]) if body.get("schema") else f"`{media}`" if media else ""
    said = response["description"]
    return f"| {status} | {kind} | {'' if said == 'Successful Response' else _cell(said)} |"


def _answer(name: str, schema: Schema, notes: dict[str, dict[str, str]]) -> str:
    lines = [f"### {name}", ""]
    if said := schema.get("description"):
        lines += [said, ""]
    lines += ["| field | type | meaning |", "|---|---|---|"]
    lines += _fields(schema, notes.get(name, {}))
    return "\n".join(lines) + "\n"


def _answers(calls: list[tuple[str, str, Schema]], schemas: dict[str, Schema]) -> set[str]:
    """The schemas that answers are made of."""
    found: set[str] = set()
    left = [name for _, _, call in calls for name in _references(call["responses"])]
    while left:
        if (name := left.pop()) not in found and name != "JsonValue":
            found.add(name)
            left += _references(schemas[name])
    return found


def _references(tree: Any) -> list[str]:
    if isinstance(tree, list):
        return [name for part in tree for name in _references(part)]
    if not isinstance(tree, dict):
        return []
    here = [tree["$ref"].rpartition("/")[2]] if "$ref" in tree else []
    return here + [name for part in tree.values() for name in _references(part)]


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    if "$ref" in schema:
        return schemas[schema["$ref"].rpartition("/")[2]]
    for part in schema.get("anyOf", []):
        if "$ref" in part:
            return _resolved(part, schemas)
    return schema


def _type(schema: Schema) -> str:
    """What a value may be, in words, with links to other answers."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "any" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if schema.get("contentMediaType") or schema.get("format") == "binary":
        return "file"
    if kind == "array":
        parts = schema.get("prefixItems")
        inner = ", ".join(_type(part) for part in parts) if parts else _type(schema["items"])
        return f"list of: {inner}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of: {_type(values)}" if isinstance(values, dict) and values else "object"
    words = {"integer": "whole number", "number": "number", "string": "text", None: "any"}
    words |= {"boolean": "true or false", "null": "null"}
    return " ".join([words[kind], ", ".join(_bounds(schema))]).strip()


def _bounds(schema: Schema) -> Iterator[str]:
    for name, sign in (("minimum", "≥"), ("maximum", "≤")):
        if name in schema:
            yield f"{sign} {int(schema[name]):,}"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']} characters"


def _default(schema: Schema) -> str:
    if schema.get("default") is None:
        return ""
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


def _attribute_docstrings() -> dict[str, dict[str, str]]:
    """What stands below the fields of the classes that answers are made of."""
    found: dict[str, dict[str, str]] = {}
    for name in ("schemas.py", "answers.py", "lineage_answers.py", "rank_answers.py"):
        for node in ast.parse((CORE / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                parents = [b.id for b in node.bases if isinstance(b, ast.Name)]
                fields = {k: v for p in parents for k, v in found.get(p, {}).items()}
                found[node.name] = fields | dict(_documented(node))
    return found


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            name = {"json_schema": "schema"}.get(field.target.id, field.target.id)
            yield name, inspect.cleandoc(str(after.value.value))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
