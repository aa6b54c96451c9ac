"""Which engine starts the ranks of a run."""

from __future__ import annotations

from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.worker.driver import Engine


def engine_for(
    workspace: Workspace, run: RunDir, settings: RunSettings, attempt: Attempt
) -> Engine:
    """The engine that the settings name; raises WrongInput where it cannot do what is asked for."""
    if settings.training.distributed.launcher == "torchrun":
        from tsuzuku.worker.torchrun import Torchrun

        return Torchrun(settings.training)
    from tsuzuku.worker.on_ray import OnRay

    return OnRay(workspace, run, settings, attempt)
