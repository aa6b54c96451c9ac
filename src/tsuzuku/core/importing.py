"""Taking checkpoints of other programs in: the folder `imports/` of a workspace, and the copy that
a run keeps of the file it began from."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from tsuzuku.core.answers import ImportInfo, Part
from tsuzuku.core.errors import CorruptCheckpoint, DiskFull, NotFound, TsuzukuError
from tsuzuku.core.foreign import SUFFIXES, ForeignFile, look
from tsuzuku.core.workspace import RunDir, Workspace, sync_folder

PREFIX = "imports/"
LONGEST = 255
"""Bytes of a file's name."""
CHUNK = 4 << 20
RESERVE = 16 << 20
"""Bytes that stay free beside the copy."""


def is_import(parent: str) -> bool:
    """Whether a run's parent is a file of another program."""
    return parent.startswith(PREFIX)


def find_import(workspace: Workspace, name: str, *, paths: bool) -> ForeignFile | None:
    """The file that `imports/NAME`, or with `paths` a path, stands for; None for another name.

    A path to a checkpoint in a run's folder is that run's own. Raises NotFound where `imports/`
    has no such file, CorruptCheckpoint where it cannot be used.
    """
    path = Path(name)
    try:
        there = paths and path.suffix in SUFFIXES and path.is_file()
    except OSError:
        there = False
    if there:
        real = path.resolve()
        if real.parent.name != "checkpoints" or not RunDir(real.parent.parent).identity.exists():
            return look(real)
    if not name.startswith(PREFIX):
        return None
    bare = name.removeprefix(PREFIX)
    found = workspace.imports / bare
    if not _is_plain(bare) or not found.is_file() or found.is_symlink():
        raise NotFound(
            f"There is no file {name[:200]!r}.",
            f"Put it into {workspace.imports}, as a file and not as a link.",
            code="no_checkpoint",
        )
    return look(found)


def listed(workspace: Workspace) -> list[ImportInfo]:
    """What is in `imports/`, by name; of what cannot be used, why."""
    try:
        files = sorted(p for p in workspace.imports.iterdir() if _is_plain(p.name))
    except OSError:
        return []
    return [_info(path) for path in files if path.is_file()]


def _is_plain(name: str) -> bool:
    return (
        Path(name).name == name
        and not name.startswith(".")
        and name.isprintable()
        and len(name.encode()) <= LONGEST
        and name.endswith(SUFFIXES)
    )


def _info(path: Path) -> ImportInfo:
    name = f"{PREFIX}{path.name}"
    size = 0
    try:
        size = path.lstat().st_size
        if path.is_symlink():
            raise CorruptCheckpoint(f"{path.name} is a link; put the file itself here.")
        found = look(path)
    except (TsuzukuError, OSError) as error:
        return ImportInfo(name=name, size=size, size_mb=round(size / 1e6, 3), problem=str(error))
    there: dict[Part, bool] = {
        "weights": True,
        "optimizer": found.optimizer is not None,
        "scheduler": found.scheduler,
        "epoch": found.epoch is not None,
    }
    return ImportInfo(
        name=name,
        size=size,
        size_mb=round(size / 1e6, 3),
        format=found.format,
        epoch=found.epoch,
        global_step=found.global_step,
        has=[part for part, is_there in there.items() if is_there],
        left_out=list(found.unopened),
        model_name=found.model_name,
        dataset_name=found.dataset_name,
    )


def take(found: ForeignFile, run: RunDir) -> dict[str, Any]:
    """Copy a file into a new run's folder; what `run.json` keeps of it.

    The copy is there as a whole or not at all, and what the run begins from is the copy, whatever
    becomes of the file. Raises DiskFull, or CorruptCheckpoint for a file that has changed.
    """
    run.imports.mkdir()
    target = run.imports / found.name
    draft = target.with_name(f".{target.name}.tmp")
    digest = hashlib.sha256()
    try:
        if shutil.disk_usage(run.imports).free < found.size + RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # a link that has taken the file's place since is not followed
        source = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(source, "rb") as file, draft.open("wb") as copy:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        draft.replace(target)
        sync_folder(run.imports)
    except OSError as error:
        said = f"{found.name} could not be copied: {error.strerror or error}."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk is full: {said}") from None
        raise TsuzukuError(said, code="write_failed") from None
    again = look(target)
    if (again.format, again.epoch, again.weights) != (found.format, found.epoch, found.weights):
        raise CorruptCheckpoint(f"{found.name} was changed while it was being copied.")
    return {
        "name": found.name,
        "path": str(found.path),
        "sha256": digest.hexdigest(),
        "format": found.format,
    }
