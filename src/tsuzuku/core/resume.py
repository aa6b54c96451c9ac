"""What a training would go on from: nothing, the tip of a run, or a branch off a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tsuzuku.core import data_files, plugin_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.config_loader import (
    Difference,
    canonical,
    checked,
    differences,
    laid_over,
    parse_overrides,
    resolve,
    resolved,
)
from tsuzuku.core.errors import Busy, NotFound, SettingsError, WrongInput
from tsuzuku.core.finding import find_checkpoint, newest_checkpoint, refuse_busy, tip
from tsuzuku.core.foreign import ForeignFile, look
from tsuzuku.core.importing import find_import
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import RunDir, Workspace

Mode = Literal["fresh", "continue", "branch", "finished"]

DATA = "data set files"
"""The key under which a difference of the data itself is listed."""
UNKNOWN = "unknown"
"""What stands for the files of a checkpoint that says nothing of them."""


@dataclass(frozen=True)
class Plan:
    """What to do, decided before anything is written."""

    mode: Mode
    settings: RunSettings
    model: PluginFile
    dataset: PluginFile
    run: RunDir | None = None
    """The run that goes on, or whose checkpoint is branched from."""
    checkpoint: CheckpointFile | None = None
    differences: list[Difference] = field(default_factory=list[Difference])
    data: data_files.Comparison | None = None
    """How the files below the data set's `path` are now, where it has one."""
    fine_tuning: bool = False
    """Only the weights come along; epochs, steps and everything else begin anew."""
    foreign: ForeignFile | None = None
    """The file of another program that a new run begins from."""
    alike: CheckpointFile | None = None
    """A checkpoint of the same model, whose weights those of `foreign` can be compared with."""

    @property
    def epoch(self) -> int:
        """Completed epochs where it goes on."""
        if self.foreign is not None:
            said = self.settings.training.initialize.epoch
            return (self.foreign.epoch or 0) if said is None else said
        return self.checkpoint.epoch if self.checkpoint else 0

    @property
    def origin(self) -> str | None:
        """`run_id/name` of the checkpoint that it goes on from, or `imports/NAME`."""
        if self.foreign is not None:
            return self.foreign.origin
        if self.run is None or self.checkpoint is None:
            return None
        return f"{self.run.run_id}/{self.checkpoint.name}"


def plan_training(
    workspace: Workspace,
    store: Store,
    model: str,
    dataset: str,
    overrides: Tree,
    *,
    fresh: bool = False,
    checkpoint: str | None = None,
    same_model: bool = False,
    paths: bool = True,
    fine_tune: bool | None = None,
) -> Plan:
    """Plan `train MODEL DATASET`: with `auto_resume`, the newest checkpoint of the pair is taken.

    With `same_model`, that is the newest of a run with the same settings of the model and the same
    number of samples. `paths`: whether `checkpoint` may be a path, too. `fine_tune`: whether only
    the weights come along; None for where the data set is another one.

    Raises WrongInput for unknown names and wrong settings, NotFound for a named checkpoint that
    is not there, Busy if the run that would go on has a living worker.
    """
    config = workspace.config(overrides)
    known = config.settings
    model_file = plugin_files.find("models", model, workspace.root, known.available_models)
    dataset_file = plugin_files.find("datasets", dataset, workspace.root, known.available_datasets)
    settings = resolve(config, model, dataset, model_file.literal("TRAINING"))
    check_data_path(workspace, settings)
    new = Plan("fresh", settings, model_file, dataset_file)
    if checkpoint is not None:
        try:
            run, found = find_checkpoint(workspace, store, checkpoint, paths=paths)
        except NotFound:
            foreign = find_import(workspace, checkpoint, paths=paths)
            if foreign is None:
                raise
            return _begins_from(foreign, new, workspace, store)
        return _goes_on(workspace, run, found, new, fine_tune)
    if fresh or not settings.training.auto_resume:
        return new
    newest = newest_checkpoint(workspace, store, model, dataset, settings if same_model else None)
    return _goes_on(workspace, newest[0], None, new, fine_tune) if newest else new


def plan_resume(
    workspace: Workspace,
    store: Store,
    target: str,
    overrides: list[str] | Tree,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    paths: bool = True,
    fine_tune: bool | None = None,
) -> Plan:
    """Plan `resume RUN_OR_CHECKPOINT key=value …`: the run's own settings, changed as asked.

    `overrides` are `key.path=value` words, or a tree below `models`, `datasets` and `training`.
    With another `dataset_name` it is trained on that, with the workspace's settings of it;
    `fine_tune` is as in `plan_training`. A file of another program begins a new run of the two that
    are named, by the file itself if not here.
    """
    checkpoint = None
    try:
        run = workspace.run_dir(target)
    except NotFound:
        try:
            run, checkpoint = find_checkpoint(workspace, store, target, paths=paths)
        except NotFound:
            foreign = find_import(workspace, target, paths=paths)
            if foreign is not None:
                names = _names(foreign, model_name, dataset_name)
                tree = (
                    parse_overrides(overrides, *names) if isinstance(overrides, list) else overrides
                )
                return plan_training(workspace, store, *names, tree, checkpoint=target, paths=paths)
            raise NotFound(
                f"There is no run and no checkpoint {target!r}.",
                "`tsuzuku runs` and `tsuzuku checkpoints` list them.",
                code="no_checkpoint",
            ) from None
    identity = run.read_identity()
    asked = RunSettings.model_validate(identity["requested"])
    if model_name not in (None, asked.model_name):
        raise WrongInput(
            f"{target} is a checkpoint of {asked.model_name}, not of {model_name}.",
            f"Name {asked.model_name} as model.",
            code="wrong_model",
        )
    if dataset_name not in (None, asked.dataset_name):
        own = workspace.config().settings.datasets.get(dataset_name, {})
        asked = asked.model_copy(update={"dataset_name": dataset_name, "dataset": dict(own)})
    changes = (
        parse_overrides(overrides, asked.model_name, asked.dataset_name)
        if isinstance(overrides, list)
        else overrides
    )
    settings = _changed(asked, changes)
    check_data_path(workspace, settings)
    files = (
        _plugin(workspace, run, "models", asked.model_name),
        _plugin(workspace, run, "datasets", asked.dataset_name),
    )
    return _goes_on(workspace, run, checkpoint, Plan("fresh", settings, *files), fine_tune)


def _names(foreign: ForeignFile, model: str | None, dataset: str | None) -> tuple[str, str]:
    """Of the model and the data set that a file is to be trained with."""
    model, dataset = model or foreign.model_name, dataset or foreign.dataset_name
    if model is None or dataset is None:
        raise WrongInput(
            f"{foreign.name} does not say which model and data set it is of.",
            "Name them: `--model MODEL --dataset DATASET`.",
        )
    return model, dataset


def _begins_from(foreign: ForeignFile, new: Plan, workspace: Workspace, store: Store) -> Plan:
    """A new run that takes over what it can of a file of another program."""
    settings = new.settings
    names = settings.model_name, settings.dataset_name
    alike = None
    try:
        found = newest_checkpoint(workspace, store, *names, settings)
    except Busy:  # a run that has saved nothing yet
        found = None
    if found is not None:
        sources: Tree = found[0].read_identity()["source"]
        alike = found[1] if sources.get(new.model.label) == new.model.sha256() else None
    plan = replace(new, mode="branch", foreign=foreign, alike=alike)
    over = plan.epoch >= settings.training.num_epochs
    return replace(plan, mode="finished") if over else plan


def plan_restart(workspace: Workspace, run_id: str) -> Plan:
    """Plan the next attempt of a run that ended badly: with its own settings, and the plug-in
    files that it began with, whatever has become of them in the workspace.

    Raises NotFound for an unknown run, WrongInput where its data is gone, Busy if it has a worker.
    """
    run = workspace.run_dir(run_id)
    identity = run.read_identity()
    settings = RunSettings.model_validate(identity["requested"])
    check_data_path(workspace, settings)
    if (worker := run.worker()) is not None:
        refuse_busy(run, worker)
    model = _kept(run, "models", settings.model_name)
    dataset = _kept(run, "datasets", settings.dataset_name)
    return Plan("continue", settings, model, dataset, run, tip(run))


def check_data_path(workspace: Workspace, settings: RunSettings) -> None:
    """Raise WrongInput if the data set's `path` is set and nothing is there."""
    path = settings.dataset.get("path")
    if isinstance(path, str) and not (workspace.root / Path(path).expanduser()).exists():
        raise WrongInput(
            f"datasets.{settings.dataset_name}.path: {path} does not exist.",
            f"`tsuzuku data download {settings.dataset_name}` may fetch it.",
            code="missing_data",
        )


def _goes_on(
    workspace: Workspace,
    run: RunDir,
    checkpoint: CheckpointFile | None,
    new: Plan,
    fine_tune: bool | None,
) -> Plan:
    """Continue at the tip with what gives the same result, else branch.

    Without a checkpoint the tip is meant, whatever that is: a living worker moves it.
    """
    identity = run.read_identity()
    asked = RunSettings.model_validate(identity["requested"])
    found = differences(asked, new.settings)
    for plugin in (new.model, new.dataset):
        old = identity["source"].get(plugin.label)
        if old != plugin.sha256() and asked.model_name == new.settings.model_name:
            found.append(Difference(plugin.label, (old or "")[:12], plugin.sha256()[:12], True))
    newest = tip(run)
    checkpoint = checkpoint or newest
    data = _compared_data(workspace, run, checkpoint, asked, new.settings)
    found = _with_data(found, data)
    elsewhere = any(d.key == "dataset.path" and d.changes_result for d in found)
    if fine_tune is None:
        fine_tune = asked.dataset_name != new.settings.dataset_name or (
            elsewhere and data is not None and data.same is False
        )
    if fine_tune and checkpoint is not None:
        return replace(
            new,
            mode="branch",
            run=run,
            checkpoint=checkpoint,
            differences=found,
            data=data,
            fine_tuning=True,
        )
    at_tip = newest is None or (checkpoint is not None and checkpoint.position == newest.position)
    finished = (
        checkpoint is not None
        and checkpoint.epoch >= new.settings.training.num_epochs
        and asked.model_name == new.settings.model_name
        and asked.dataset_name == new.settings.dataset_name
    )
    if at_tip and not any(d.changes_result for d in found):
        if (worker := run.worker()) is not None:
            refuse_busy(run, worker)
        # early stopping completes a run before its last epoch
        longer = any(d.key == "training.num_epochs" and d.new > d.old for d in found)
        over = _is_complete(run) and (finished or not longer)
        mode: Mode = "finished" if over else "continue"
    else:
        mode = "finished" if finished else "branch"
    if mode == "branch" and checkpoint is None and (origin := identity.get("origin")):
        # it has nothing of its own yet: what it began from is what another one branches off
        foreign = look(run.imports / str(origin["name"]))
        return replace(new, mode=mode, differences=found, foreign=foreign)
    return replace(new, mode=mode, run=run, checkpoint=checkpoint, differences=found, data=data)


def _compared_data(
    workspace: Workspace,
    run: RunDir,
    checkpoint: CheckpointFile | None,
    old: RunSettings,
    new: RunSettings,
) -> data_files.Comparison | None:
    """The data set's files now and when the checkpoint was saved; None where it names none."""
    if checkpoint is None or old.dataset_name != new.dataset_name:
        return None
    config: Any = checkpoint.info.get("config")
    defaults: Any = config.get("dataset") if is_tree(config) else None
    known = defaults if is_tree(defaults) and "path" not in old.dataset else {}
    path = new.dataset.get("path") or known.get("path")
    summary = checkpoint.info["metadata"].get("data_files", UNKNOWN)
    if not isinstance(path, str) and not is_tree(summary):
        return None
    if path is None and new.dataset == old.dataset and (before := data_files.kept(run)):
        path = before.root or None  # where the data set itself found them
    if not isinstance(path, str):
        return data_files.Comparison(None, "Its files lie where only the data set knows.")
    return data_files.compared(run, summary, workspace.root / Path(path).expanduser())


def _with_data(found: list[Difference], data: data_files.Comparison | None) -> list[Difference]:
    """The same files at another place change nothing; other files do, at any place."""
    if data is None or data.same is None:
        return found
    if data.same:
        return [replace(d, changes_result=False) if d.key == "dataset.path" else d for d in found]
    return [*found, Difference(DATA, "", data.why, True)]


def _is_complete(run: RunDir) -> bool:
    return run.weights.exists()


def _changed(asked: RunSettings, changes: Tree) -> RunSettings:
    """`asked` with overrides on top; raises SettingsError naming what is wrong."""
    problems: list[str] = []
    changes = resolved(changes)
    tree = asked.model_dump(mode="json")
    layers: list[Tree] = [_mapping(changes, "training", "training", problems)]
    known = ("training", "models", "datasets")
    problems += [f"{key} cannot be changed at a resume" for key in changes if key not in known]
    for kind, part, name in (
        ("models", "model", asked.model_name),
        ("datasets", "dataset", asked.dataset_name),
    ):
        section = _mapping(changes, kind, kind, problems)
        problems += [
            f"{kind}.{other} is not part of this run" for other in section if other != name
        ]
        mine = dict(_mapping(section, name, f"{kind}.{name}", problems))
        if kind == "models":
            layers.append(_mapping(mine, "training", f"{kind}.{name}.training", problems))
            mine.pop("training", None)
        tree[part] = laid_over(tree[part], mine)
    for layer in layers:
        tree["training"] = laid_over(tree["training"], canonical(layer))
    settings = checked(RunSettings, tree, "", problems)
    if settings is None or problems:
        raise SettingsError(problems, "overrides")
    return settings


def _mapping(tree: Tree, key: str, path: str, problems: list[str]) -> Tree:
    """The mapping at `key`, an empty one if there is nothing or, with a problem, something else."""
    value: Any = {} if tree.get(key) is None else tree[key]
    if is_tree(value):
        return value
    problems.append(f"{path} has to be a mapping (it is {value!r})")
    return {}


def _plugin(workspace: Workspace, run: RunDir, kind: plugin_files.Kind, name: str) -> PluginFile:
    """The plug-in as it is now; if it is gone, the copy that the run keeps."""
    plugins = plugin_files.found(kind, workspace.root)
    kept = _kept(run, kind, name)
    if name not in plugins and kept.path.exists():
        return kept
    return plugins.get(name) or plugin_files.find(kind, name, workspace.root)


def _kept(run: RunDir, kind: plugin_files.Kind, name: str) -> PluginFile:
    """The copy of a plug-in that a run keeps."""
    return PluginFile(kind, name, run.source / kind / f"{name}.py", builtin=False)
