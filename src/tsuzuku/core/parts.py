"""A checkpoint's parts: a folder beside its file, with what each of several ranks held of it.

The file holds all but the sharded tensors, and its sidecar lists the parts under `parts`. The name
of a part tells its contents, so that a folder may hold those of two files for as long as one takes
the other's place. What no sidecar lists is left over from a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core.errors import Busy, CorruptCheckpoint
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.core.workspace import sync_folder

KEY = "parts"
"""In a sidecar, and in the file that it is about."""
SUFFIX = ".parts"
DRAFT = ".gathered.tmp"
"""In a folder of parts: the one file that they are being gathered into."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """One file of the folder."""

    name: str
    size: int
    sha256: str


def folder_of(path: Path) -> Path:
    """Where the parts of the checkpoint at `path` are, if it has any; `path` may be a link."""
    path = path.resolve() if path.is_symlink() else path
    return path.with_name(path.name + SUFFIX)


def listed(info: Mapping[str, Any]) -> list[Part]:
    """The parts that a sidecar (or a file) lists; raises CorruptCheckpoint for what is no list."""
    table: Any = info.get(KEY)
    if table is None:
        return []
    found: list[Part] = []
    for entry in table if is_list(table) else [None]:
        name, size, sha256 = (
            (entry.get(k) for k in ("name", "size", "sha256")) if is_tree(entry) else (None,) * 3
        )
        # a name, and nothing that leads elsewhere
        plain = isinstance(name, str) and bool(name) and Path(name).name == name
        plain = plain and not str(name).startswith(".")
        if not plain or not isinstance(size, int) or not isinstance(sha256, str):
            raise CorruptCheckpoint("A checkpoint's table of parts makes no sense.")
        found.append(Part(str(name), size, sha256))
    return found


def table(parts: Collection[Part]) -> list[dict[str, Any]]:
    """`parts` as a sidecar lists them."""
    return [{"name": p.name, "size": p.size, "sha256": p.sha256} for p in parts]


def file_size(info: Mapping[str, Any]) -> int:
    """Bytes of the file alone: a sidecar's `size` is what file and parts take together."""
    return int(info["size"]) - sum(part.size for part in listed(info))


def taken(path: Path) -> int:
    """Bytes in the folder of a checkpoint's parts, if there is one."""
    return sum(one.stat().st_size for one in folder_of(path).glob("*"))


def sized(path: Path, info: Mapping[str, Any]) -> None:
    """Raise CorruptCheckpoint unless every part is there in its size: a look without reading."""
    folder = folder_of(path)
    for part in listed(info):
        try:
            size = (folder / part.name).stat().st_size
        except FileNotFoundError:
            raise CorruptCheckpoint(
                f"{path.name} lacks its part {folder.name}/{part.name}."
            ) from None
        if size != part.size:
            raise CorruptCheckpoint(
                f"{folder.name}/{part.name} has {size:,} bytes and should have {part.size:,}: it "
                "was cut or overwritten."
            )


def check(path: Path, info: Mapping[str, Any]) -> None:
    """Compare every part with the sidecar; raises CorruptCheckpoint, naming the first that differs,
    and OSError for what cannot be read."""
    sized(path, info)
    for part in listed(info):
        with (folder_of(path) / part.name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != part.sha256:
            raise altered(path, part)


def altered(path: Path, part: Part) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{folder_of(path).name}/{part.name} was altered: its SHA-256 is not the saved one."
    )


def share(source: Path, target: Path, info: Mapping[str, Any]) -> None:
    """Let the parts of `source` be those of `target`, too: the same bytes, or copies of them."""
    parts = listed(info)
    if not parts:
        return
    folder = folder_of(target)
    folder.mkdir(exist_ok=True)
    for part in parts:
        name, origin = folder / part.name, folder_of(source) / part.name
        if name.exists() and name.samefile(origin):
            continue
        draft = folder / f".{part.name}.tmp"
        draft.unlink(missing_ok=True)
        try:
            draft.hardlink_to(origin)
        except OSError:
            _copy(origin, draft)
        draft.replace(name)
    sync_folder(folder)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("wb") as copy:
        while chunk := original.read(CHUNK):
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())


def move(path: Path, target: Path) -> None:
    """Let the parts of `path` follow it to its new name."""
    with contextlib.suppress(FileNotFoundError):
        folder_of(path).replace(folder_of(target))


def settle(draft: Path, path: Path) -> None:
    """Give the folder of finished parts its name; nothing under that name is about a file."""
    sync_folder(draft)
    shutil.rmtree(folder_of(path), ignore_errors=True)
    draft.replace(folder_of(path))


def remove(path: Path) -> None:
    """Delete the parts of a checkpoint that has gone."""
    shutil.rmtree(folder_of(path), ignore_errors=True)


def tidy(path: Path, info: Mapping[str, Any]) -> list[str]:
    """Delete what a checkpoint's folder holds beside what its sidecar lists; the names.

    The folder itself goes where nothing is listed. One that is being gathered just now is left.
    """
    folder = folder_of(path)
    if not folder.is_dir() or is_gathered_now(path):
        return []
    known = {part.name for part in listed(info)}
    if not known:
        shutil.rmtree(folder, ignore_errors=True)
        return [folder.name]
    left = [one for one in folder.iterdir() if one.name not in known]
    for one in left:
        one.unlink(missing_ok=True)
    return [f"{folder.name}/{one.name}" for one in left]


def remove_orphans(folder: Path) -> list[str]:
    """Delete, in a run's `checkpoints/`, the parts of checkpoints that are no more; the names."""
    removed: list[str] = []
    for one in folder.glob(f"*{SUFFIX}"):
        if one.is_dir() and not one.with_suffix("").exists():
            shutil.rmtree(one, ignore_errors=True)
            removed.append(one.name)
    return removed


@contextmanager
def gathered_alone(path: Path) -> Generator[None]:
    """Nobody else gathers this checkpoint meanwhile; raises Busy if somebody does already.

    The lock is on the folder and ends with the process, as a Hold's.
    """
    try:
        number = os.open(folder_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # nothing to gather: what is to be opened next tells
        return
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"{path.name} is being gathered by another process.", "Try again when it is done."
            ) from None
        except OSError:
            pass  # no locks on this file system
        yield
    finally:
        os.close(number)


def is_gathered_now(path: Path) -> bool:
    """Whether a process is gathering this checkpoint."""
    try:
        with gathered_alone(path):
            return False
    except Busy:
        return True
