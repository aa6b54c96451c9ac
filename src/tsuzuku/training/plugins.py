"""Loading a person's model and data-set files, and making what is in them."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from pydantic import BaseModel
from torch.utils.data import default_collate  # pyright: ignore[reportUnknownVariableType]

from tsuzuku.core.config_loader import checked, suggest
from tsuzuku.core.errors import SettingsError, TsuzukuError, WrongInput

T = TypeVar("T")
VALIDATION_SPLITS = ("validation", "val", "valid", "dev")


class PluginError(WrongInput):
    """A plug-in cannot be loaded or does not do what a plug-in does."""

    code = "bad_plugin"


class PlainConfig(dict[str, Any]):
    """Settings for a plug-in without a `Config`: `config["path"]` and `config.path` both work."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}; set it in config.yaml") from None


class Plugin:
    """The module of a plug-in file. Unpickling it in another process loads the file there."""

    def __init__(self, label: str, path: Path) -> None:
        self.label = label
        self.path = path
        self.module_name = "tsuzuku_plugins." + label.removesuffix(".py").replace("/", ".")
        self.module = _load(self.module_name, path, label)

    def __reduce__(self) -> Any:
        return Plugin, (self.label, self.path)

    def only_class(self, named_by: str, kind: str, fits: Callable[[type], bool]) -> type:
        """The class named by the constant `named_by`, else the file's only one that fits."""
        classes = [
            thing
            for thing in vars(self.module).values()
            if isinstance(thing, type) and thing.__module__ == self.module_name and fits(thing)
        ]
        name = getattr(self.module, named_by, None)
        if name is not None:
            chosen = name if isinstance(name, type) else getattr(self.module, str(name), None)
            if isinstance(chosen, type) and fits(chosen):
                return chosen
            raise PluginError(
                f"{self.label}: {named_by} = {name!r} names no {kind} class in the file."
            )
        if len(classes) == 1:
            return classes[0]
        if not classes:
            raise PluginError(f"{self.label} has no {kind} class.")
        listed = ", ".join(c.__name__ for c in classes)
        raise PluginError(
            f"{self.label} has several {kind} classes ({listed}).",
            f'Say which one by {named_by} = "{classes[-1].__name__}" in the file.',
        )

    def where(self, error: BaseException) -> str:
        """`models/vae.py, line 12` for the innermost frame of `error` in this file."""
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(self.path)
        ]
        return f"{self.label}, line {lines[-1]}" if lines else self.label


def _load(module_name: str, path: Path, label: str) -> ModuleType:
    known = sys.modules.get(module_name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if "tsuzuku_plugins" not in sys.modules:
        for package in ("tsuzuku_plugins", "tsuzuku_plugins.models", "tsuzuku_plugins.datasets"):
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = []
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{label} cannot be loaded from {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[module_name]
        raise PluginError(f"{label}, line {error.lineno}: {error.msg}.") from None
    except BaseException as error:
        del sys.modules[module_name]
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        at = f", line {lines[-1]}" if lines else ""
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"{label}{at} raised {sentence(error)} when it was imported.") from error
    finally:
        sys.dont_write_bytecode = keep
    return module


def sentence(error: BaseException) -> str:
    """`ValueError: what it said`, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True)
class Data:
    """A run's samples: the data sets by split, and which of their samples belong to it."""

    plugin: Plugin
    settings: dict[str, Any]
    train: Any
    validation: Any
    """A data set of its own, or None: then a part of `train` is split off."""

    @property
    def collate(self) -> Callable[[list[Any]], Any]:
        own: Any = getattr(self.train, "collate", None)
        return own or default_collate  # pyright: ignore[reportUnknownVariableType]


def dataset_class(plugin: Plugin) -> type:
    """Its data-set class; raises PluginError if there is not exactly one, or one that is named."""
    return plugin.only_class("DATASET", "data-set", _is_dataset)


def model_class(plugin: Plugin) -> type:
    """Its model class; raises PluginError as `dataset_class` does."""
    return plugin.only_class("MODEL", "model (torch.nn.Module)", _is_model)


def split_names(plugin: Plugin, cls: type) -> list[str]:
    """The splits that a data set says it has; empty if it says nothing."""
    named: Any = getattr(cls, "splits", None) or getattr(plugin.module, "splits", ())
    if not isinstance(named, list | tuple):
        raise PluginError(f"{plugin.label}: splits has to be a list of names (it is {named!r}).")
    return [str(split) for split in cast("list[Any]", named)]


def make_data(plugin: Plugin, settings: Mapping[str, Any]) -> Data:
    """Make the data sets of every split that a training needs.

    Raises SettingsError for wrong settings and WrongInput for what the plug-in says of its data.
    """
    cls = dataset_class(plugin)
    config, resolved = make_config(plugin, cls, settings, f"datasets.{_name(plugin)}")
    offered = split_names(plugin, cls)
    second = next((s for s in VALIDATION_SPLITS if s in offered), None)
    train = guarded(plugin, lambda: cls(config, "train"))
    count = guarded(plugin, lambda: len(train))
    if count == 0:
        raise WrongInput(f"{plugin.label}: the training split is empty.", code="empty_dataset")
    validation = guarded(plugin, lambda: cls(config, second)) if second else None
    if validation is not None and guarded(plugin, lambda: len(validation)) == 0:
        raise WrongInput(f"{plugin.label}: the {second} split is empty.", code="empty_dataset")
    return Data(plugin, resolved, train, validation)


def make_model(
    plugin: Plugin, settings: Mapping[str, Any], dataset: Any
) -> tuple[Any, dict[str, Any]]:
    """The model, and its settings with the defaults filled in.

    A model that has completed its settings, say by the data set's vocabulary, keeps them as
    `config`: these are then what a run and its checkpoints hold.
    """
    cls = model_class(plugin)
    where = f"models.{_name(plugin)}"
    schema = config_class(plugin, cls)
    if schema is not None or hasattr(cls, "from_config"):
        config, resolved = make_config(plugin, cls, settings, where)
        if hasattr(cls, "from_config"):
            model = guarded(plugin, lambda: cast(Any, cls).from_config(config, dataset))
        else:
            model = guarded(plugin, lambda: _construct(cls, {}, where, config, dataset))
    else:
        resolved = dict(settings)
        model = guarded(
            plugin, lambda: _construct(cls, settings, where, PlainConfig(settings), dataset)
        )
    if not isinstance(model, torch.nn.Module):
        raise PluginError(f"{plugin.label}: {cls.__name__}.from_config has to return the model.")
    completed = getattr(model, "config", None)
    if schema is not None and isinstance(completed, schema):
        resolved = completed.model_dump(mode="json")
    return model, resolved


def make_config(
    plugin: Plugin, cls: type, settings: Mapping[str, Any], where: str
) -> tuple[Any, dict[str, Any]]:
    """What the plug-in gets as `config`, and the same as plain values."""
    schema = config_class(plugin, cls)
    if schema is None:
        return PlainConfig(settings), dict(settings)
    problems: list[str] = []
    config = checked(schema, settings, where, problems)
    if not schema.model_config.get("extra"):
        unknown = [k for k in settings if k not in schema.model_fields]
        known = list(schema.model_fields)
        problems += [f"{where}.{k} is not a setting{suggest(k, known)}" for k in unknown]
    if config is None or problems:
        raise SettingsError(problems, "config.yaml")
    return config, config.model_dump(mode="json")


def config_class(plugin: Plugin, cls: type) -> type[BaseModel] | None:
    """The plug-in's `Config`: of the class, else of the module; None if it has none."""
    found = getattr(cls, "Config", None) or getattr(plugin.module, "Config", None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def guarded(plugin: Plugin, make: Callable[[], T]) -> T:
    """Call into a plug-in; whatever it raises becomes one sentence that names file and line."""
    try:
        return make()
    except TsuzukuError:
        raise
    except (FileNotFoundError, ValueError) as error:
        # what a plug-in says of its data or settings is meant for the person as it is
        raise WrongInput(f"{plugin.where(error)}: {' '.join(str(error).split())}") from error
    except Exception as error:
        raise PluginError(f"{plugin.where(error)}: {sentence(error)}") from error


def _construct(
    cls: type, settings: Mapping[str, Any], where: str, config: Any, dataset: Any
) -> Any:
    """Call a plain constructor with what its parameters ask for by name."""
    parameters = inspect.signature(cls).parameters
    given: dict[str, Any] = {"config": config, "dataset": dataset}
    arguments = {name: given[name] for name in parameters if name in given}
    if "config" not in parameters:
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        known = [name for name in parameters if name not in given]
        unknown = [k for k in settings if k not in known and not open_ended]
        if unknown:
            raise SettingsError(
                [f"{where}.{k} is not a setting{suggest(k, known)}" for k in unknown], "config.yaml"
            )
        arguments |= dict(settings)
    return cls(**arguments)


def _is_model(cls: type) -> bool:
    return issubclass(cls, torch.nn.Module)


def _is_dataset(cls: type) -> bool:
    return (
        hasattr(cls, "__getitem__")
        and hasattr(cls, "__len__")
        and not issubclass(cls, dict | tuple)
    )


def _name(plugin: Plugin) -> str:
    return Path(plugin.label).stem
