"""Retention applied to the files of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core import checkpoint_files, retention
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.holding import is_held, remove_unless_held
from tsuzuku.core.schemas import Checkpoint
from tsuzuku.core.settings import CheckpointSettings, RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


@dataclass(frozen=True)
class Pruned:
    """What a retention pass left and took away."""

    records: list[Checkpoint]
    removed: list[str]


def prune(run: RunDir, policy: CheckpointSettings, store: Store, *, dry: bool = False) -> Pruned:
    """Apply the retention policy to a run; before anything is deleted the newest one is verified.

    `dry` only says what would go. Raises CorruptCheckpoint if the newest one does not verify.
    May run while the run is trained: what is saved or pruned meanwhile is left alone.
    """
    surveyed, newest = _surveyed(run, policy, store)
    if dry or not surveyed.removed or newest is None:
        return surveyed
    checkpoint_files.check(newest)
    # that took its time, in which somebody may have saved, pinned or opened one
    surveyed, now = _surveyed(run, policy, store)
    if now is not None and now.name != newest.name:
        checkpoint_files.check(now)
    removed = [name for name in surveyed.removed if remove_unless_held(run.checkpoints / name)]
    return Pruned(surveyed.records, removed)


def _surveyed(
    run: RunDir, policy: CheckpointSettings, store: Store
) -> tuple[Pruned, CheckpointFile | None]:
    """What the policy says of a run's checkpoints just now, and the newest of them."""
    prefix = f"{run.run_id}/"
    parents = {p.removeprefix(prefix) for p in store.parents() if p.startswith(prefix)}
    files, _ = checkpoint_files.in_folder(run.checkpoints, remembered=True)
    pinned = pins(store, run.run_id)
    surveyed = survey(files, policy, pinned, parents)
    if held := {name for name in surveyed.removed if is_held(run.checkpoints / name)}:
        surveyed = survey(files, policy, pinned, parents | held)
    return surveyed, files[-1] if files else None


def prune_all(
    workspace: Workspace, store: Store, *, dry: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Apply every run's own policy; what was removed, what was kept and why, and what was wrong.

    A run whose newest checkpoint is damaged keeps all that it has; the others go on.
    """
    removed: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    wrong: list[str] = []
    for run in workspace.run_dirs():
        settings = RunSettings.model_validate(run.read_identity()["requested"])
        try:
            result = prune(run, settings.training.checkpoint, store, dry=dry)
        except CorruptCheckpoint as error:
            wrong.append(f"{run.run_id}: nothing was removed, since {error.detail}")
            continue
        removed += [{"run_id": run.run_id, "name": name} for name in result.removed]
        kept += [
            {"run_id": run.run_id, "name": c.name, "kept_because": c.kept_because}
            for c in result.records
        ]
        if not dry:
            for name in result.removed:
                store.drop_checkpoint(run.run_id, name)
    return removed, kept, wrong


def index_anew(run: RunDir, store: Store) -> None:
    """Put what a killed worker saved, but could not put into the index any more, there."""
    known = {c.name for c in store.checkpoints(run_id=run.run_id)}
    files, _ = checkpoint_files.in_folder(run.checkpoints)
    if any(f.name not in known for f in files):
        records = survey(files, CheckpointSettings(keep_last_n=None)).records
        store.put_checkpoints([r for r in records if r.name not in known])


def note_gathered(store: Store, path: Path) -> None:
    """Put the size and the hash that a checkpoint has now, as one file, into the index."""
    with contextlib.suppress(CorruptCheckpoint):  # deleted since
        file = checkpoint_files.read(path.resolve())
        size, sha256 = int(file.info["size"]), str(file.info["sha256"])
        for name in {file.name, str(file.info.get("copy_of", file.name))}:
            store.resize_checkpoint(file.run_id, name, size, sha256)


def pins(store: Store, run_id: str) -> set[str]:
    """Names of a run's pinned checkpoints."""
    return {c.name for c in store.checkpoints(run_id=run_id) if c.pinned}


def survey(
    files: Sequence[CheckpointFile],
    policy: CheckpointSettings,
    pinned: Collection[str] = (),
    in_use: Collection[str] = (),
) -> Pruned:
    """What the policy keeps of a run's checkpoints (oldest first), and what it would remove."""
    candidates = [_candidate(f, policy.monitor, pinned) for f in files]
    reasons = retention.decide(candidates, policy, in_use)
    gone = [f.name for f in files if not reasons[f.name]]
    best = [f for f in files if "best" in reasons[f.name]]
    records = [
        index_record(
            f,
            kept_because=reasons[f.name],
            is_latest=f is files[-1],
            is_best=bool(best) and f is best[0],
            verified=f is files[-1] and bool(gone),
            pinned=f.name in pinned,
        )
        for f in files
        if reasons[f.name]
    ]
    return Pruned(records, gone)


def index_record(file: CheckpointFile, **more: Any) -> Checkpoint:
    """A checkpoint's row in the index, from its sidecar."""
    config = file.info["config"]
    return Checkpoint(
        name=file.name,
        run_id=file.run_id,
        model_name=config["model_name"],
        dataset_name=config["dataset_name"],
        epoch=file.epoch,
        global_step=file.global_step,
        path=str(file.path),
        size=int(file.info["size"]),
        sha256=str(file.info["sha256"]),
        created_at=checkpoint_files.created_at(file.info),
        metrics=dict(file.info["metrics"]),
        **more,
    )


def _candidate(file: CheckpointFile, monitor: str, pinned: Collection[str]) -> retention.Candidate:
    metrics = file.info["metrics"]
    value = metrics.get(monitor, metrics.get("train_loss") if monitor == "val_loss" else None)
    end = bool(file.info.get("end_of_epoch"))
    return retention.Candidate(
        file.name, file.epoch, file.global_step, value if end else None, end, file.name in pinned
    )
