"""Checkpoints by their names, and the newest ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import Busy, CorruptCheckpoint, NotFound
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


def tip(run: RunDir) -> CheckpointFile | None:
    """The newest checkpoint of a run by its position, or None."""
    good, _ = checkpoint_files.in_folder(run.checkpoints)
    return good[-1] if good else None


def newest_checkpoint(
    workspace: Workspace,
    store: Store,
    model: str,
    dataset: str,
    like: RunSettings | None = None,
) -> tuple[RunDir, CheckpointFile] | None:
    """The newest checkpoint of a model and data set: the tip of the run that moved last.

    With `like`, only of runs that asked for the same model settings and number of samples.
    """
    runs = store.runs(model_name=model, dataset_name=dataset)
    for record in sorted(runs, key=lambda r: (r.updated_at, r.run_id), reverse=True):
        try:
            run = workspace.run_dir(record.run_id)
        except NotFound:
            continue  # its folder was deleted by hand
        if like is not None:
            asked = RunSettings.model_validate(run.read_identity()["requested"])
            if (asked.model, asked.training.limit_samples) != (
                like.model,
                like.training.limit_samples,
            ):
                continue
        found = tip(run)
        if found or run.worker() is not None:
            return (run, found) if found else refuse_busy(run)
    return None


def find_checkpoint(
    workspace: Workspace, store: Store, name: str, *, paths: bool = True
) -> tuple[RunDir, CheckpointFile]:
    """The checkpoint called `name`, `run_id/name`, or with `paths` by a path in a run's folder.

    Links count as well (`…-latest.pt`, `…-best.pt`). A bare name is searched from the newest run
    on. Raises NotFound, or CorruptCheckpoint for a file whose sidecar cannot be used.
    """
    path = Path(name)
    if paths and path.exists() and path.resolve().parent.name == "checkpoints":
        real = path.resolve() if path.is_symlink() else path.absolute()
        run = RunDir(real.parent.parent)
        if run.identity.exists():
            return run, _lasting(checkpoint_files.read(real))
    run_id, _, bare = name.rpartition("/")
    if run_id:
        candidates = [workspace.run_dir(run_id)]
    else:
        candidates = [RunDir(r.path) for r in reversed(list(workspace.run_dirs()))]
    for run in candidates:
        named = Path(bare).name == bare and bare.endswith(checkpoint_files.SUFFIXES)
        file = _file(run.checkpoints / bare) if named else None
        if file is not None:
            return run, _lasting(checkpoint_files.read(file))
    raise NotFound(
        f"There is no checkpoint {name!r}.",
        "`tsuzuku checkpoints` lists them.",
        code="no_checkpoint",
    )


def _file(path: Path) -> Path | None:
    """The file that a name or a link stands for; None where that is not in the same folder."""
    if not path.exists():
        return None
    if not path.is_symlink():
        return path
    real = path.resolve()
    return path.with_name(real.name) if real.parent == path.parent.resolve() else None


def _lasting(checkpoint: CheckpointFile) -> CheckpointFile:
    """The checkpoint that a `best` is a copy of, if it is still there: `best` will be another."""
    if checkpoint.info.get("role") != "best":
        return checkpoint
    original = checkpoint.path.with_name(str(checkpoint.info.get("copy_of")))
    try:
        found = checkpoint_files.read(original)
    except CorruptCheckpoint:
        return checkpoint
    return found if found.info["sha256"] == checkpoint.info["sha256"] else checkpoint


def refuse_busy(run: RunDir, worker: int | None = None) -> Any:
    raise Busy(
        f"Run {run.run_id} is being trained right now (process {worker or run.worker()}).",
        "`tsuzuku follow` watches it, `tsuzuku stop` stops it, `--fresh` starts another run.",
        code="already_running",
    )
