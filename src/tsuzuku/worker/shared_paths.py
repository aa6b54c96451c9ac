"""What every machine that trains has to see: the run's folder, and its data."""

from __future__ import annotations

from pathlib import Path

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.resume import check_data_path
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import RunDir, Workspace


def needed(workspace: Workspace, run: RunDir, requested: RunSettings) -> list[Path]:
    """The run's folder and the path of its data, where that has one."""
    data = requested.dataset.get("path")
    paths = [run.identity]
    if isinstance(data, str):
        paths.append(workspace.root / Path(data).expanduser())
    return paths


def require_seen(
    paths: dict[str, bool], machine: str, workspace: Workspace, requested: RunSettings
) -> None:
    """Raise TsuzukuError unless a machine sees all of `needed`, by what it said of them."""
    run, *data = paths.values()
    if not run:
        raise run_not_seen(machine, workspace)
    if not all(data):
        name, path = requested.dataset_name, requested.dataset["path"]
        raise data_not_seen(machine, f"datasets.{name}.path: {path} does not exist.")


def run_not_seen(machine: str, workspace: Workspace) -> TsuzukuError:
    return TsuzukuError(
        f"The machine {machine} does not see the folder of this run in {workspace.outputs}.",
        "Every machine has to have the workspace at the same path of a shared file system.",
        code="path_not_shared",
    )


def data_not_seen(machine: str, why: str) -> TsuzukuError:
    return TsuzukuError(
        f"The machine {machine} does not see the data: {why}",
        "Every machine has to have the data at the same path.",
        code="path_not_shared",
    )


def require_data(workspace: Workspace, requested: RunSettings, machine: str) -> None:
    """Raise TsuzukuError if this machine does not see the data, which the driver's sees."""
    try:
        check_data_path(workspace, requested)
    except WrongInput as error:
        raise data_not_seen(machine, error.detail) from None
