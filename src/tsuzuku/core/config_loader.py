"""From `config.yaml` and `key=value` overrides to checked settings.

Whatever is wrong is said by its full path with what would be right, everything at once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from tsuzuku.core.errors import SettingsError, WrongInput
from tsuzuku.core.settings import (
    CHECKPOINT_ALIASES,
    SAME_RESULT,
    RunSettings,
    TrainingSettings,
    WorkspaceSettings,
)
from tsuzuku.core.trees import Tree, is_tree

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Config:
    """A workspace's settings, and the tree they came from (overrides included)."""

    settings: WorkspaceSettings
    path: Path
    overrides: Tree = field(default_factory=dict[str, Any])

    @property
    def where(self) -> str:
        """What to call the place where a setting is wrong."""
        return f"{self.path} and the overrides" if self.overrides else str(self.path)


def read_yaml(path: Path) -> Tree:
    """The mapping in a YAML file; raises WrongInput with file and line if it is not one."""
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise WrongInput(f"{path} does not exist.", "`tsuzuku init` makes a workspace.") from None
    except UnicodeDecodeError as error:
        raise WrongInput(f"{path} is not UTF-8 text ({error.reason}).") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise WrongInput(f"{path}{line}: not valid YAML: {error.problem}.") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise WrongInput(f"{path}: not valid YAML: {_first_line(error)}.") from None
    except OSError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror or error}.") from None
    if not OmegaConf.is_dict(loaded):
        raise WrongInput(f"{path} has to be a mapping of settings (key: value).")
    return cast(Tree, OmegaConf.to_container(loaded, resolve=False))


def parse_overrides(words: Sequence[str], model: str = "", dataset: str = "") -> Tree:
    """`key.path=value` words as a tree below `models`, `datasets`, `training`, `server`.

    `model.x` and `dataset.x` mean the chosen ones; a name of a training setting may stand alone.
    """
    problems: list[str] = []
    dotlist: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            problems.append(f"{word!r} is not an override; write key.path=value")
            continue
        dotlist.append(f"{_full_path(key.strip(), model, dataset)}={value}")
        try:
            OmegaConf.from_dotlist(dotlist[-1:])
        except (yaml.YAMLError, OmegaConfBaseException, ValueError, IndexError) as error:
            problems.append(
                f"{word!r} cannot be read ({_first_line(error)}); write its value as YAML has it,"
                " in quotes if there are quotes, colons or brackets in it"
            )
    if problems:
        raise SettingsError(problems, "overrides")
    try:
        return cast(Tree, OmegaConf.to_container(OmegaConf.from_dotlist(dotlist), resolve=False))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, IndexError) as error:
        raise SettingsError([_first_line(error)], "overrides") from None


def overrides_tree(values: Mapping[str, Any], model: str, dataset: str) -> Tree:
    """`{key.path: value}` as `parse_overrides` makes a tree of words; the values keep their types.

    Interpolations, which could read the environment, are refused.
    """
    problems: list[str] = []
    tree: Tree = {}
    for key, value in values.items():
        path = _full_path(key.strip(), model, dataset).split(".")
        if not all(path):
            problems.append(f"{key!r} is not the path of a setting")
        elif "${" in json.dumps(value, default=str):
            problems.append(f"{key}: interpolations are for config.yaml")
        elif path[0] not in ("training", "models", "datasets"):
            problems.append(f"{key} cannot be set for a training")
        else:
            nested: Any = value
            for part in reversed(path):
                nested = {part: nested}
            tree = laid_over(tree, nested)
    if problems:
        raise SettingsError(problems, "overrides")
    return tree


def load(path: Path, overrides: Tree | None = None) -> Config:
    """Read and check `config.yaml` with overrides on top.

    Raises WrongInput for a file that is not YAML and SettingsError for wrong settings.
    """
    try:
        overrides = _canonical_sections(overrides or {})
        layers = [_canonical_sections(read_yaml(path)), overrides]
        merged = OmegaConf.merge(*[OmegaConf.create(layer) for layer in layers])
        tree = cast(Tree, OmegaConf.to_container(merged, resolve=True))
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise SettingsError([f"{key}{_first_line(error)}"], str(path)) from None
    # a section that is left empty in the file means its defaults
    known = WorkspaceSettings.model_fields
    tree = {key: value for key, value in tree.items() if value is not None or key not in known}
    problems: list[str] = []
    settings = checked(WorkspaceSettings, tree, "", problems)
    if is_tree(training := tree.get("training")):
        checked(TrainingSettings, training, "training", problems)
    where = Config(WorkspaceSettings(), path, overrides).where
    if settings is None or problems:
        raise SettingsError(problems, where)
    return Config(settings, path, overrides)


def resolve(config: Config, model: str, dataset: str, preset: Any = None) -> RunSettings:
    """The settings of a run.

    A plug-in's preset, `training`, `models.<model>.training`, overrides: the later go before.
    """
    settings = config.settings
    of_model = dict(settings.models.get(model) or {})
    own: Any = of_model.pop("training", None) or {}
    problems: list[str] = []
    if not is_tree(own):
        raise SettingsError([f"models.{model}.training has to be a mapping"], config.where)
    # checked alone first, so that what is wrong is named by the path at which it stands
    checked(TrainingSettings, own, f"models.{model}.training", problems)
    asked = _among(settings.training, config.overrides.get("training"))
    of_model_asked: Tree = cast(Tree, config.overrides.get("models") or {}).get(model) or {}
    own_asked = _among(own, of_model_asked.get("training"))
    label = f"models/{model}.py: TRAINING"
    if preset is not None and not is_tree(preset):
        problems.append(f"{label} has to be a mapping of training settings")
    elif preset:
        checked(TrainingSettings, preset, label, problems)
    if problems:
        raise SettingsError(problems, config.where)
    layers: list[Tree] = [
        preset or {},
        settings.training,
        own,
        asked,
        own_asked,
    ]
    merged = OmegaConf.to_container(
        OmegaConf.merge(*[OmegaConf.create(canonical(x)) for x in layers])
    )
    training = checked(
        TrainingSettings, cast(Tree, merged), "training", [] if problems else problems
    )
    if training is None or problems:
        raise SettingsError(problems, config.where)
    return RunSettings(
        model_name=model,
        dataset_name=dataset,
        model=of_model,
        dataset=dict(settings.datasets.get(dataset) or {}),
        training=training,
        language=settings.server.language,
    )


def _canonical_sections(tree: Tree) -> Tree:
    """A configuration whose training sections have aliases replaced."""
    copy = dict(tree)
    if is_tree(training := tree.get("training")):
        copy["training"] = canonical(training)
    models = tree.get("models")
    if is_tree(models):
        copy["models"] = {
            name: _canonical_sections(model) if is_tree(model) else model
            for name, model in models.items()
        }
    return copy


def canonical(training: Mapping[str, Any]) -> Tree:
    """`training` with aliases replaced, so that layers that use either name merge.

    What is given by both names in one layer is left, for the check to refuse.
    """
    if not is_tree(training.get("checkpoint") or {}):
        return dict(training)
    tree: Tree = dict(training)
    inner: Tree = dict(training.get("checkpoint") or {})
    for alias, name in zip(CHECKPOINT_ALIASES, ("save_freq", "keep_last_n"), strict=True):
        for source in (tree, inner):
            if alias in source and name not in inner:
                inner[name] = source.pop(alias)
    return {**tree, "checkpoint": inner} if inner else tree


def checked(model: type[M], tree: Mapping[str, Any], where: str, problems: list[str]) -> M | None:
    """`tree` as a `model`; None if it is not one, with every reason appended to `problems`."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems.extend(p for p in explain(error, model, where) if p not in problems)
        return None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """One sentence for each thing that pydantic found wrong, with its full path."""
    sentences: list[str] = []
    for item in error.errors():
        path = ".".join([where, *map(str, item["loc"])] if where else map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1])
            sentences.append(f"{path} is not a setting{suggest(str(item['loc'][-1]), known)}")
            continue
        if item["type"] == "missing":
            sentences.append(f"{path} is missing")
            continue
        said = item["msg"].removeprefix("Value error, ")
        said = said[0].lower() + said[1:] if said.startswith("Input ") else said
        given = item["input"]
        shown = "" if is_tree(given) else f" (it is {given!r})"
        sentences.append(f"{path}: {said}{shown}")
    return sentences


def suggest(name: str, known: Sequence[str]) -> str:
    """` (did you mean …?)` or the list of what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known)}" if known else ""


@dataclass(frozen=True)
class Difference:
    """One setting that differs; `changes_result` if weights or metrics depend on it."""

    key: str
    old: Any
    new: Any
    changes_result: bool


LENGTHS = ("num_epochs", "scheduler_options.schedule_epochs")
"""Settings that change the result only by the schedule's length."""


def differences(old: RunSettings, new: RunSettings) -> list[Difference]:
    """Every setting in which two runs' settings differ, by full path."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    found: list[Difference] = []
    same_schedule = old.training.schedule_epochs == new.training.schedule_epochs
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key) or key == "language":
            continue
        short = key.removeprefix("training.")
        harmless = key.startswith("training.") and (
            any(short == k or short.startswith(k + ".") for k in SAME_RESULT)
            or (short in LENGTHS and same_schedule)
        )
        found.append(Difference(key, before.get(key), after.get(key), not harmless))
    return found


def dump_yaml(tree: Any) -> str:
    """A plain tree as YAML, keys in their order, Japanese as it is."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def read_run_settings(run_dir: Path) -> RunSettings:
    """The settings that a run was started with; raises WrongInput if they cannot be read."""
    path = run_dir / "config.json"
    try:
        return RunSettings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise WrongInput(f"{path} does not exist: {run_dir} is not a run.") from None
    except (ValueError, OSError) as error:
        raise WrongInput(f"{path} cannot be read: {_first_line(error)}.") from None


def resolved(tree: Tree) -> Tree:
    """`tree` with interpolations filled in; raises SettingsError if one cannot be."""
    try:
        return cast(Tree, OmegaConf.to_container(OmegaConf.create(tree), resolve=True))
    except OmegaConfBaseException as error:
        raise SettingsError([_first_line(error)], "overrides") from None


def laid_over(old: Tree, new: Tree) -> Tree:
    """`old` with what `new` has on top, mapping by mapping."""
    merged = dict(old)
    for key, value in new.items():
        inner = merged.get(key)
        if is_tree(value) and is_tree(inner):
            merged[key] = laid_over(inner, value)
        else:
            merged[key] = value
    return merged


def _among(tree: Tree, wanted: Any) -> Tree:
    """The part of `tree` that stands where `wanted` has something."""
    if not is_tree(wanted):
        return {}
    part: Tree = {}
    for key, value in wanted.items():
        inner = tree.get(key)
        part[key] = _among(inner, value) if is_tree(value) and is_tree(inner) else inner
    return part


def _full_path(key: str, model: str, dataset: str) -> str:
    head, dot, rest = key.partition(".")
    if head == "model" and dot and model:
        return f"models.{model}.{rest}"
    if head == "dataset" and dot and dataset:
        return f"datasets.{dataset}.{rest}"
    if head in TrainingSettings.model_fields or head in CHECKPOINT_ALIASES:
        return f"training.{key}"
    if not dot and head not in WorkspaceSettings.model_fields:
        # most likely a training setting misspelt, and that is where its neighbours are listed
        return f"training.{key}"
    return key


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the settings in the section at `loc`."""
    here: Any = model
    for part in loc:
        field = here.model_fields.get(part) if _is_section(here) else None
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        here = next((c for c in candidates if _is_section(c)), None)
    return list(here.model_fields) if _is_section(here) else []


def _is_section(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)


def _flat(tree: Any, prefix: str = "") -> Tree:
    if not is_tree(tree):
        return {prefix: tree}
    flat: Tree = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
