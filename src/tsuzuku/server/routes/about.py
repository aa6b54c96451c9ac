"""What the server offers, and the machine it runs on."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from fastapi import APIRouter

from tsuzuku import __version__
from tsuzuku.core import plugin_files
from tsuzuku.core.answers import Config, Health, PluginInfo, System
from tsuzuku.core.config_loader import checked, resolve
from tsuzuku.core.errors import SettingsError
from tsuzuku.core.plugin_files import Kind
from tsuzuku.core.settings import TrainingSettings, WorkspaceSettings
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.server import machine
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems

router = APIRouter(prefix="/api", tags=["about"])


@router.get("/health")
def health() -> Health:
    """Whether the server answers; needs no token."""
    return Health(ok=True, version=__version__)


@router.get("/config", responses=problems(400))
def config(here: Here) -> Config:
    """Models, data sets and settings; each plug-in with the JSON schema of its settings.

    Plug-ins are imported by a worker, never by the server. The first call after a file has
    changed waits for that.
    """
    given = here.workspace.config()
    settings = given.settings
    training = checked(TrainingSettings, settings.training, "training", []) or TrainingSettings()
    models = _plugins(here, settings, "models")
    for plugin in models.values():
        with suppress(SettingsError):  # a training is refused with it
            resolved = resolve(given, plugin.name, "", plugin.preset)
            plugin.training = resolved.training.model_dump(mode="json")
    datasets = _plugins(here, settings, "datasets")
    return Config(
        available_models=list(models),
        available_datasets=list(datasets),
        training_config=training.model_dump(mode="json"),
        training_schema=_training_schema(),
        models=models,
        datasets=datasets,
        language=settings.server.language,
        max_running=settings.server.max_running,
    )


@router.get("/system")
def system(here: Here) -> System:
    """Processor, memory, GPUs and free disk, of the machine and of the workers."""
    return machine.look(here.workspace, [run.run_id for run in here.supervisor.running()])


@cache
def _training_schema() -> Tree:
    return TrainingSettings.model_json_schema()


def _plugins(here: Context, settings: WorkspaceSettings, kind: Kind) -> dict[str, PluginInfo]:
    offered = settings.available_models if kind == "models" else settings.available_datasets
    given = settings.models if kind == "models" else settings.datasets
    found = plugin_files.found(kind, here.workspace.root)
    chosen = [p for n, p in sorted(found.items()) if offered is None or n in offered]
    described = here.catalog.describe(chosen)
    plugins: dict[str, PluginInfo] = {}
    for plugin in chosen:
        answer: Tree = described[plugin.label]
        schema, preset = answer.get("schema"), answer.get("preset")
        plugins[plugin.name] = PluginInfo(
            name=plugin.name,
            builtin=plugin.builtin,
            sha256=plugin.sha256(),
            description=str(answer.get("doc") or ""),
            schema=schema if is_tree(schema) else None,
            settings=given.get(plugin.name) or {},
            preset=preset if is_tree(preset) else None,
            has=answer.get("has") or {},
            splits=answer.get("splits") or [],
            error=str(answer.get("error") or ""),
        )
    return plugins
