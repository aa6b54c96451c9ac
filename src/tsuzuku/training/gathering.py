"""Making one file of a checkpoint in parts: the contract's, as if it had been saved so."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import Busy, CorruptCheckpoint
from tsuzuku.core.holding import held
from tsuzuku.training.checkpoints import bytes_needed, disk_error, require_room, written
from tsuzuku.training.opening import load


def gather(path: Path) -> CheckpointFile:
    """Let the checkpoint at `path` be one file, if it is in parts; what it is now.

    Killed at any moment, it leaves the old or the new checkpoint, with a sidecar that is about it;
    what else is left is swept. It may be called beside the training of its run, and by several
    processes. A `best` follows the checkpoint that it is a copy of, so that the two share one file.

    It needs memory for the whole checkpoint, and as much room on the disk as the parts take. Raises
    CorruptCheckpoint if it is damaged, DiskFull, and Busy if somebody gathers it already.
    """
    path = path.resolve() if path.is_symlink() else path
    original = _original(path)
    if original is not None:
        gather(original)
        found = checkpoint_files.read(path)
        if parts.KEY not in found.info:
            return found
    with parts.gathered_alone(path), held(path):
        before = checkpoint_files.read(path)
        after = before if parts.KEY not in before.info else _gathered(before)
    parts.tidy(path, after.info)
    if after is not before:
        _follow(before, after)
    return after


def _gathered(file: CheckpointFile) -> CheckpointFile:
    checkpoint_files.check(file)
    draft = parts.folder_of(file.path) / parts.DRAFT
    try:
        state = load(file.path)
        require_room(file.path.parent, bytes_needed(state))
        size, sha256 = written(state, draft)
        # what was made of it knows it by its old hash
        facts = {"size": size, "sha256": sha256, "gathered_from": file.info["sha256"]}
        return checkpoint_files.exchange(file, draft, parts=None, **facts)
    except (CorruptCheckpoint, OSError) as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if not checkpoint_files.is_still(file) or not parts.folder_of(file.path).is_dir():
            raise Busy(
                f"{file.name} was replaced, moved or deleted while it was being gathered.",
                "`tsuzuku checkpoints` lists what is there.",
            ) from None
        if isinstance(error, OSError):
            raise disk_error(error, file.path) from error
        raise


def _original(path: Path) -> Path | None:
    """Of a `best` in parts, the checkpoint that it is a copy of, if that is still the same."""
    best = checkpoint_files.read(path)
    if best.info.get("role") != "best" or parts.KEY not in best.info:
        return None
    original = path.with_name(str(best.info.get("copy_of")))
    try:
        found = checkpoint_files.read(original)
    except CorruptCheckpoint:
        return None
    return original if found.info["sha256"] == best.info["sha256"] else None


def _follow(before: CheckpointFile, after: CheckpointFile) -> None:
    """Let what was a copy of a checkpoint be one of what it is now."""
    for path in checkpoint_files.bests(after.path.parent):
        best = checkpoint_files.read(path)
        same = best.info["sha256"] == before.info["sha256"]
        if same and best.info.get("copy_of") == before.name:
            checkpoint_files.link_best(after, path.name, instead_of=best)
