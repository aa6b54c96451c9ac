"""Which weights are meant: of a run, of a model, or simply the newest."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator

from tsuzuku.core import checkpoint_files
from tsuzuku.core.answers import TrainedModel
from tsuzuku.core.checkpoint_files import CheckpointFile, created_at
from tsuzuku.core.errors import CorruptCheckpoint, NotFound
from tsuzuku.core.finding import find_checkpoint, tip
from tsuzuku.core.schemas import Run
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RUN_ID, RunDir, Workspace

MODEL_NAME = re.compile(rf"(?P<run>{RUN_ID.pattern})-(?P<kind>best|final)")


def checkpoint_to_use(
    workspace: Workspace,
    store: Store,
    *,
    checkpoint: str | None = None,
    run_id: str | None = None,
    model_name: str | None = None,
) -> tuple[RunDir, CheckpointFile]:
    """The checkpoint that is named, else the best (without one the newest) of the run or model.

    Raises NotFound if there is none.
    """
    if checkpoint:
        name = f"{run_id}/{checkpoint}" if run_id and "/" not in checkpoint else checkpoint
        return find_checkpoint(workspace, store, name, paths=False)
    if run_id:
        candidates = [workspace.run_dir(run_id)]
    else:
        candidates = list(_folders(workspace, store.runs(model_name=model_name or None)))
    for run in candidates:
        found = best(run) or tip(run)
        if found is not None:
            return run, found
    what = f"of run {run_id}" if run_id else f"of {model_name}" if model_name else "yet"
    raise NotFound(f"There is no checkpoint {what}.", "Train first.", code="no_checkpoint")


def best(run: RunDir) -> CheckpointFile | None:
    """The copy of a run's best checkpoint, if it has one."""
    for path in sorted(run.checkpoints.glob("*")):
        if path.suffix in checkpoint_files.SUFFIXES and not path.is_symlink():
            try:
                found = checkpoint_files.read(path)
            except CorruptCheckpoint:
                continue
            if found.info.get("role") == "best":
                return found
    return None


def trained_models(workspace: Workspace, store: Store) -> list[TrainedModel]:
    """Best and final weights of every run, newest run first."""
    models: list[TrainedModel] = []
    records = {run.run_id: run for run in store.runs()}
    for run in _folders(workspace, list(records.values())):
        record = records[run.run_id]
        if (final := _final(run, record)) is not None:
            models.append(final)
        if (found := best(run)) is not None:
            size = int(found.info["size"])
            models.append(
                TrainedModel(
                    name=f"{run.run_id}-best",
                    kind="best",
                    run_id=run.run_id,
                    model_name=record.model_name,
                    dataset_name=record.dataset_name,
                    path=str(found.path),
                    size=size,
                    size_mb=round(size / 1e6, 3),
                    created_at=created_at(found.info),
                    epoch=found.epoch,
                    metrics=dict(found.info.get("metrics") or {}),
                )
            )
    return models


def trained_model(workspace: Workspace, name: str) -> tuple[RunDir, str]:
    """The run and the kind (best, final) that a trained model's name stands for."""
    match = MODEL_NAME.fullmatch(name)
    if match is None:
        raise NotFound(f"There is no trained model {name[:80]!r}.", "GET /api/models lists them.")
    return workspace.run_dir(match["run"]), match["kind"]


def _final(run: RunDir, record: Run) -> TrainedModel | None:
    try:
        state = run.weights.stat()
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    newest = tip(run)
    return TrainedModel(
        name=f"{run.run_id}-final",
        kind="final",
        run_id=run.run_id,
        model_name=record.model_name,
        dataset_name=record.dataset_name,
        path=str(run.weights),
        size=state.st_size,
        size_mb=round(state.st_size / 1e6, 3),
        created_at=state.st_mtime,
        epoch=record.epoch,
        metrics=dict(newest.info.get("metrics") or {}) if newest else {},
    )


def _folders(workspace: Workspace, runs: list[Run]) -> Iterator[RunDir]:
    for run in runs:
        try:
            yield workspace.run_dir(run.run_id)
        except NotFound:
            continue  # deleted by hand
