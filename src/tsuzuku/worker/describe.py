"""What plug-ins are: their settings as JSON schema, their presets, what they can do."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, TypeAdapter

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.plugin_files import Kind, PluginFile
from tsuzuku.core.schemas import jsonable
from tsuzuku.core.trees import Tree, is_list, is_tree
from tsuzuku.training.plugins import (
    Plugin,
    config_class,
    dataset_class,
    model_class,
    sentence,
    split_names,
)

ABILITIES = ("validate", "inference", "export_inputs", "lengths")
"""Optional methods that others ask about."""

OPEN: Tree = {"type": "object", "properties": {}, "additionalProperties": True}
"""The schema of settings of which nothing is known."""


def describe_plugin(kind: Kind, name: str, path: Path) -> Tree:
    """What is in a plug-in file, which is imported for it; with `ok` False, why it is of no use.

    Never raises: whatever the file does wrong is its description.
    """
    answer: Tree = {"kind": kind, "name": name, "sha256": ""}
    try:
        answer["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return answer | {"ok": True} | _described(PluginFile(kind, name, path, builtin=False))
    except TsuzukuError as error:
        return answer | {"ok": False, "error": error.detail, "hint": error.hint}
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror or error}."
        return answer | {"ok": False, "error": said, "hint": ""}
    except Exception as error:
        said = f"{kind}/{name}.py cannot be described: {sentence(error)}."
        return answer | {"ok": False, "error": said, "hint": ""}


def _described(file: PluginFile) -> Tree:
    plugin = Plugin(file.label, file.path)
    is_model = file.kind == "models"
    cls = model_class(plugin) if is_model else dataset_class(plugin)
    preset = file.literal("TRAINING") if is_model else None
    return {
        "class_name": cls.__name__,
        "doc": _first_paragraph(plugin.module.__doc__) or _first_paragraph(cls.__doc__),
        "schema": jsonable(settings_schema(plugin, cls, is_model=is_model)),
        "preset": jsonable(preset) if is_tree(preset) else None,
        "has": {name: callable(getattr(cls, name, None)) for name in ABILITIES},
        "splits": [] if is_model else split_names(plugin, cls),
    }


def _first_paragraph(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def settings_schema(plugin: Plugin, cls: type, *, is_model: bool) -> Tree:
    """The JSON schema of what `config.yaml` may say of a plug-in.

    That of its `Config`. Without one: of a model's constructor, by its parameters; where that
    takes the settings as one mapping, as data sets do, any setting is allowed.
    """
    schema = config_class(plugin, cls)
    if schema is not None:
        return _model_schema(schema)
    if not is_model or hasattr(cls, "from_config"):
        return OPEN
    parameters = inspect.signature(cls).parameters
    if "config" in parameters:
        return OPEN
    return _constructor_schema(parameters, plugin.module)


def _model_schema(config: type[BaseModel]) -> Tree:
    try:
        return config.model_json_schema()
    except Exception:
        # a field whose type JSON cannot say; the others are still worth knowing
        fields = config.model_fields
        properties = {name: _annotation_schema(field.annotation) for name, field in fields.items()}
        for name, schema in properties.items():
            if fields[name].description:
                schema["description"] = fields[name].description
        required = [name for name, field in fields.items() if field.is_required()]
        return {"title": config.__name__, **_hoisted(properties), "required": required}


def _evaluated(annotation: Any, module: ModuleType) -> Any:
    """What an annotation in quotes, or under `from __future__ import annotations`, stands for."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(vars(module)))
    except Exception:
        return Any  # a name that only a type checker knows


def _constructor_schema(parameters: Mapping[str, inspect.Parameter], module: ModuleType) -> Tree:
    properties: dict[str, Tree] = {}
    required: list[str] = []
    open_ended = False
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            open_ended = open_ended or parameter.kind is parameter.VAR_KEYWORD
            continue
        if name == "dataset":
            continue
        default = parameter.default
        given = parameter.annotation is not parameter.empty
        annotation = _evaluated(parameter.annotation, module) if given else _type_of(default)
        schema = _annotation_schema(annotation)
        if default is parameter.empty:
            required.append(name)
        elif _is_plain(default):
            schema["default"] = default
        properties[name] = schema
    return {**_hoisted(properties), "additionalProperties": open_ended, "required": required}


def _hoisted(properties: dict[str, Tree]) -> Tree:
    """An object schema; the definitions that its properties refer to at its top."""
    shared: Tree = {}
    for schema in properties.values():
        shared |= schema.pop("$defs", {})
    return {"type": "object", "properties": properties} | ({"$defs": shared} if shared else {})


def _annotation_schema(annotation: Any) -> Tree:
    try:
        return TypeAdapter(annotation).json_schema()
    except Exception:
        return {}  # anything goes where nothing can be said


def _type_of(default: Any) -> Any:
    """What a default says of its parameter; None for `x=None` says nothing."""
    kinds: tuple[type, ...] = (bool, int, float, str, dict, list)
    return list if is_list(default) else next((k for k in kinds if isinstance(default, k)), Any)


def _is_plain(value: Any) -> bool:
    if is_tree(value):
        return all(_is_plain(part) for part in value.values())
    if is_list(value):
        return all(_is_plain(part) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)
