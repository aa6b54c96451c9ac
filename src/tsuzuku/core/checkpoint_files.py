"""Checkpoint files on disk: sidecars, hashes, links, what a crash leaves behind.

A checkpoint is there or not there. It is written under a temporary name, made durable, and
renamed after its sidecar; so a file under its final name is whole and has its sidecar. Nothing
here opens the file as torch would; that is what the sidecar is for. The parts of a checkpoint that
was saved by several ranks (see `parts`) go wherever it goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core import parts
from tsuzuku.core.errors import CorruptCheckpoint, TsuzukuError
from tsuzuku.core.shortages import says_nothing_of_the_file
from tsuzuku.core.sidecars import read_sidecar, sidecar, write_sidecar
from tsuzuku.core.trees import is_tree
from tsuzuku.core.workspace import RunDir, sync_folder

SUFFIXES = (".pt", ".pth")
CHUNK = 1 << 20
NEXT = "next"
"""In a sidecar: the file that is about to have the name, by its inode, and what is true of it."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint and what its sidecar says of it."""

    path: Path
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def epoch(self) -> int:
        return int(self.info["epoch"])

    @property
    def global_step(self) -> int:
        return int(self.info["global_step"])

    @property
    def position(self) -> tuple[int, int]:
        """Orders the checkpoints of a run: the end of an epoch comes after its last step."""
        return self.global_step, self.epoch

    @property
    def run_id(self) -> str:
        return str(self.info["metadata"].get("run_id", ""))


def temporary(path: Path) -> Path:
    """Where a file is written before it has its name; only the run's lock holder writes it."""
    return path.with_name(f".{path.name}.tmp")


def read(path: Path, *, remembered: bool = False) -> CheckpointFile:
    """The checkpoint at `path` by its sidecar; raises CorruptCheckpoint if that is unusable.

    With `remembered` a sidecar that nobody has changed is not read again.
    """
    try:
        info, altered = read_sidecar(path, remembered=remembered)
    except FileNotFoundError:
        raise CorruptCheckpoint(
            f"{path.name} has no sidecar {sidecar(path).name}.", code="no_sidecar"
        ) from None
    except (OSError, ValueError):
        raise CorruptCheckpoint(f"{sidecar(path).name} cannot be read.") from None
    info = _present(path, info) if is_tree(info) else info
    fields = {"epoch": int, "global_step": int, "size": int, "sha256": str, "metadata": dict}
    for key, kind in fields.items():
        if not is_tree(info) or not isinstance(info.get(key), kind):
            raise CorruptCheckpoint(f"{sidecar(path).name} lacks a usable {key!r}.")
    if altered:
        raise CorruptCheckpoint(f"{sidecar(path).name} was altered: its checksum does not fit.")
    return CheckpointFile(path, info)


def _present(path: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """What a sidecar says of the file that has the name now, while it is being replaced."""
    following: Any = info.get(NEXT)
    if is_tree(following) and is_tree(following.get("info")):
        with contextlib.suppress(OSError):
            if path.stat().st_ino == following.get("inode"):
                return dict(following["info"])
    return {k: v for k, v in info.items() if k not in (NEXT, "checksum")}


def in_folder(folder: Path, *, remembered: bool = False) -> tuple[list[CheckpointFile], list[Path]]:
    """The checkpoints in a folder, oldest position first, and the files that have no good sidecar.

    Links (`latest`) and the `best` copies are left out. `remembered`: see `read`.
    """
    good: list[CheckpointFile] = []
    odd: list[Path] = []
    for path in _files(folder):
        try:
            found = read(path, remembered=remembered)
        except CorruptCheckpoint:
            odd.append(path)
            continue
        if found.info.get("role") != "best":
            good.append(found)
    return sorted(good, key=lambda c: c.position), odd


def bests(folder: Path) -> list[Path]:
    """The `best` copies in a folder that have a good sidecar."""
    found: list[Path] = []
    for path in _files(folder):
        with contextlib.suppress(CorruptCheckpoint):
            if read(path).info.get("role") == "best":
                found.append(path)
    return found


def _files(folder: Path) -> list[Path]:
    """What may be checkpoints, by name: neither links nor what is being written."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.endswith(SUFFIXES) and not e.is_symlink()]
        return [folder / name for name in sorted(names) if not name.startswith(".")]
    return []


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(checkpoint: CheckpointFile) -> None:
    """Compare the file with its sidecar; raises CorruptCheckpoint, saying how they differ."""
    try:
        _check(checkpoint)
    except CorruptCheckpoint:
        # its run may have compressed it since the sidecar was read
        again = read(checkpoint.path)
        if again.info == checkpoint.info:
            raise
        _check(again)


def _check(checkpoint: CheckpointFile) -> None:
    try:
        size, right = checkpoint.path.stat().st_size, parts.file_size(checkpoint.info)
        if size != right:
            raise CorruptCheckpoint(
                f"{checkpoint.name} has {size:,} bytes and should have {right:,}: it was cut or "
                "overwritten."
            )
        digest = sha256_of(checkpoint.path)
    except OSError as error:
        kind = TsuzukuError if says_nothing_of_the_file(error) else CorruptCheckpoint
        raise kind(f"{checkpoint.name} cannot be read: {error.strerror or error}.") from None
    if digest != checkpoint.info["sha256"]:
        raise CorruptCheckpoint(f"{checkpoint.name} was altered: its SHA-256 is not the saved one.")
    try:
        parts.check(checkpoint.path, checkpoint.info)
    except OSError as error:
        kind = TsuzukuError if says_nothing_of_the_file(error) else CorruptCheckpoint
        said = error.strerror or error
        raise kind(f"The parts of {checkpoint.name} cannot be read: {said}.") from None


def exchange(checkpoint: CheckpointFile, draft: Path | None = None, **facts: Any) -> CheckpointFile:
    """Let the finished and fsynced temporary file take the checkpoint's place; `facts` are its
    `size` and `sha256`, and what else changes in the sidecar, where None takes something out.
    `draft`: that file, where it has another name than `temporary`'s.

    Raises FileNotFoundError if the checkpoint is another one by now, or is gone.
    """
    path = checkpoint.path
    info = {k: v for k, v in {**checkpoint.info, **facts}.items() if v is not None}
    with _one_at_a_time(path.parent):
        if not is_still(checkpoint):
            raise FileNotFoundError(path)
        return _replace(path, info, draft)


def is_still(checkpoint: CheckpointFile) -> bool:
    """Whether what has the name of a checkpoint is still that one."""
    try:
        return read(checkpoint.path).info["sha256"] == checkpoint.info["sha256"]
    except CorruptCheckpoint:
        return False


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Generator[None]:
    """No other process lets a file take another's place in a folder meanwhile: a training that has
    a new best one may meet somebody who makes one file of the old one."""
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # no locks on this file system
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _replace(path: Path, info: Mapping[str, Any], draft: Path | None = None) -> CheckpointFile:
    """Let the finished and fsynced temporary file take a name that is taken, or not yet.

    At every moment the file that has the name is whole and its sidecar is about it: for as long
    as nobody knows which of the two files that is, the sidecar is about both.
    """
    draft = draft or temporary(path)
    try:
        old = read(path).info
    except CorruptCheckpoint:
        write_sidecar(path, info)  # without a file it is swept
        draft.replace(path)
    else:
        inode = draft.stat().st_ino
        write_sidecar(path, {**old, NEXT: {"inode": inode, "info": dict(info)}})
        sync_folder(path.parent)
        draft.replace(path)
        write_sidecar(path, info)
    sync_folder(path.parent)
    return CheckpointFile(path, info)


def publish(path: Path, info: Mapping[str, Any], folder: Path | None = None) -> CheckpointFile:
    """Give the finished and fsynced temporary file of `path` its name, and its sidecar.

    `folder`: its finished and fsynced parts, if it has any. The sidecar comes before the file, and
    the parts before both: a crash in between leaves what is about no file, which is swept.
    """
    if path.exists():
        set_aside(path, "replaced")
    if folder is not None:
        parts.settle(folder, path)
    write_sidecar(path, info)
    temporary(path).replace(path)
    sync_folder(path.parent)
    return CheckpointFile(path, info)


def link_latest(target: Path, name: str) -> None:
    """Let the symbolic link `name` point at `target`, replacing it atomically.

    Nothing depends on the link, so no fsync waits for it.
    """
    link = target.with_name(name)
    draft = temporary(link)
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.name)
    draft.replace(link)


def link_best(target: CheckpointFile, name: str, instead_of: CheckpointFile | None = None) -> None:
    """Keep `target` under the name `name` too, so that it outlives the file it came from.

    `instead_of`: only while that one has the name.
    """
    with _one_at_a_time(target.path.parent):
        if instead_of is None or is_still(instead_of):
            _share(target, name, {**target.info, "role": "best", "copy_of": target.name})


def restore_original(best: CheckpointFile) -> CheckpointFile:
    """Give a `best` the name of the checkpoint it was a copy of back, beside its own."""
    info = {k: v for k, v in best.info.items() if k != "copy_of"} | {"role": "checkpoint"}
    with _one_at_a_time(best.path.parent):
        return _share(best, str(best.info["copy_of"]), info)


def _share(target: CheckpointFile, name: str, info: Mapping[str, Any]) -> CheckpointFile:
    path = target.path.with_name(name)
    parts.share(target.path, path, info)
    draft = temporary(path)
    draft.unlink(missing_ok=True)
    try:
        draft.hardlink_to(target.path)
    except OSError:
        # a file system without hard links: a copy serves as well
        with target.path.open("rb") as source, draft.open("wb") as copy:
            while chunk := source.read(CHUNK):
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
    replaced = _replace(path, info)
    draft.unlink(missing_ok=True)  # it stays where both are the same file already
    parts.tidy(path, info)  # those of the file that had the name before
    return replaced


def sweep(run: RunDir) -> list[str]:
    """Remove what a crash left behind; return the names. Call it only with the run's lock held."""
    removed: list[str] = []
    if not run.checkpoints.is_dir():
        return removed
    for aside in run.checkpoints.glob("*.replaced"):
        path = aside.with_suffix("")
        if not path.exists():
            # a save that was to take a name over did not come to its end
            if sidecar(aside).exists():
                sidecar(aside).replace(sidecar(path))
            if parts.folder_of(aside).is_dir():
                parts.remove(path)  # the new ones, which belong to no file
                parts.move(aside, path)
            aside.replace(path)
    for path in [*run.checkpoints.glob(".*.tmp"), *run.checkpoints.glob(".*.json.*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        removed.append(path.name)
    removed += parts.remove_orphans(run.checkpoints)
    for card in run.checkpoints.glob("*.json"):
        path = card.with_suffix("")
        if not path.exists():
            card.unlink()
            removed.append(card.name)
            continue
        with contextlib.suppress(CorruptCheckpoint):
            if path.suffix in SUFFIXES and f'"{NEXT}"' in card.read_text(errors="replace"):
                write_sidecar(path, read(path).info)
            if parts.folder_of(path).is_dir():
                removed += parts.tidy(path, read(path).info)
    for path in run.path.glob(".*.tmp"):
        path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed


def set_aside(path: Path, word: str = "corrupt") -> Path:
    """Move a bad checkpoint and its sidecar out of the way (`*.corrupt`); return the new path."""
    target = path.with_name(f"{path.name}.{word}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{word}-{number}")
    # the file first: a crash in between leaves a sidecar alone, which is swept
    path.replace(target)
    if sidecar(path).exists():
        sidecar(path).replace(sidecar(target))
    parts.move(path, target)
    sync_folder(path.parent)
    return target


def remove(path: Path) -> None:
    """Delete a checkpoint: the file first, so that no file is ever without its sidecar."""
    path.unlink(missing_ok=True)
    sidecar(path).unlink(missing_ok=True)
    parts.remove(path)
    sync_folder(path.parent)


def created_at(info: Mapping[str, Any]) -> float:
    value = info["metadata"].get("timestamp")
    return float(value) if isinstance(value, int | float) else time.time()
