"""The files below a data set's `path`: what they were when a run began, and whether they still are.

Told without loading a data set, from names, sizes and times; contents are read where times differ.
Hidden files (`.cache`, `.DS_Store`) do not count.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tsuzuku.core.trees import is_tree
from tsuzuku.core.workspace import RunDir, write_atomically

SAMPLED = 1 << 16
"""Bytes that are read of each file, at its beginning and at its end; fewer of many files."""
READ = 32 << 20
"""Bytes that are read of all files together, about."""
SAMPLED_FILES = 2_000
"""Files whose contents are sampled; of the others only names, sizes and times count."""
MOST = 500_000
"""Files that are looked at; what comes after them is not seen."""
NAMED = 3
"""Files that a sentence names."""


@dataclass(frozen=True)
class File:
    """A file by its name below the root, with `/`."""

    name: str
    size: int
    mtime: int
    """Nanoseconds."""


@dataclass(frozen=True)
class Survey:
    """All files below a root, by name, and a hash over the sampled contents."""

    files: tuple[File, ...]
    contents: str
    root: str = field(default="", compare=False)

    def summary(self) -> dict[str, Any]:
        """What a checkpoint's metadata hold of it."""
        return {
            "files": len(self.files),
            "bytes": sum(file.size for file in self.files),
            "contents": self.contents,
        }


@dataclass(frozen=True)
class Comparison:
    """How the files are now, against how they were."""

    same: bool | None
    """None where nobody knows."""
    why: str


def listed(root: Path) -> tuple[File, ...]:
    """The files below `root` (or `root` itself), by name; links are followed, once each."""
    if root.is_file():
        at = root.stat()
        return (File(root.name, at.st_size, at.st_mtime_ns),)
    found = [file for file, _ in zip(_walk(root, "", set()), range(MOST), strict=False)]
    return tuple(sorted(found, key=lambda file: file.name))


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[File]:
    try:
        at = folder.stat()
        if (at.st_dev, at.st_ino) in seen:
            return  # a link to a folder above it
        seen.add((at.st_dev, at.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", seen)
                elif entry.is_file():
                    stat = entry.stat()
                    yield File(f"{prefix}{entry.name}", stat.st_size, stat.st_mtime_ns)
    except OSError:
        return  # gone, or not ours to read: then it is not there for the training either


def _contents(root: Path, files: tuple[File, ...]) -> str:
    """A hash over names, sizes, and the beginnings and ends of the first files."""
    digest = hashlib.sha256()
    for file in files[SAMPLED_FILES:]:
        digest.update(f"{file.name}\0{file.size}\0".encode())
    chosen = files[:SAMPLED_FILES]
    part = min(SAMPLED, READ // (2 * max(len(chosen), 1)))
    for file in chosen:
        digest.update(f"{file.name}\0{file.size}\0".encode())
        path = root if root.is_file() else root / file.name
        try:
            with path.open("rb") as opened:
                digest.update(opened.read(part))
                if file.size > part:
                    opened.seek(max(file.size - part, part))
                    digest.update(opened.read(part))
        except OSError as error:
            digest.update(f"unreadable: {error.errno}".encode())
    return digest.hexdigest()


_known_contents = lru_cache(maxsize=8)(_contents)
"""For previews, which are asked for again and again: names, sizes and times tell what is known."""


def survey(root: Path, known: Survey | None = None) -> Survey:
    """All files below `root`; nothing is read if they are, by name, size and time, those of
    `known`, which an earlier attempt has seen."""
    files = listed(root)
    if known is not None and known.files == files:
        return Survey(files, known.contents, str(root))
    return Survey(files, _contents(root, files), str(root))


def keep(run: RunDir, found: Survey) -> None:
    """Write the list into the run's folder, so that a preview can name what has changed."""
    rows = [[file.name, file.size, file.mtime] for file in found.files]
    tree = {"root": found.root, "contents": found.contents, "files": rows}
    text = json.dumps(tree, ensure_ascii=False)
    write_atomically(run.data_files, gzip.compress(text.encode(), 6, mtime=0))


def kept(run: RunDir) -> Survey | None:
    """What the run's last attempt found; None if it wrote nothing that can be read."""
    try:
        tree: Any = json.loads(gzip.decompress(run.data_files.read_bytes()))
        if not is_tree(tree):
            return None
        files = tuple(File(str(n), int(s), int(t)) for n, s, t in tree["files"])
        return Survey(files, str(tree["contents"]), str(tree.get("root", "")))
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def compared(run: RunDir, summary: Any, root: Path) -> Comparison:
    """Whether the files below `root` are those of the checkpoint whose metadata have `summary`."""
    if not is_tree(summary):
        return Comparison(None, "The checkpoint does not say which files it was trained on.")
    before = kept(run)
    now = listed(root)
    count = f"{len(now):,} file{'' if len(now) == 1 else 's'}"
    if before is None or before.summary() != summary:  # the list is of a later attempt
        if Survey(now, _known_contents(root, now)).summary() == summary:
            return Comparison(True, f"{count} with the same names, sizes and contents.")
        changes = f"{summary.get('files')} were there, {len(now)} are"
        return Comparison(False, f"The files have changed: {changes}.")
    if now == before.files:
        return Comparison(True, f"{count} with the same names, sizes and times.")
    sizes = {file.name: file.size for file in before.files}
    present = {file.name: file.size for file in now}
    parts = [
        _named("new", [n for n in present if n not in sizes]),
        _named("gone", [n for n in sizes if n not in present]),
        _named("of another size", [n for n in present if sizes.get(n, present[n]) != present[n]]),
    ]
    if told := [part for part in parts if part]:
        return Comparison(False, f"The files have changed: {'; '.join(told)}.")
    if _known_contents(root, now) == before.contents:
        return Comparison(True, f"{count} with the same names, sizes and contents.")
    times = {file.name: file.mtime for file in before.files}
    newer = [file.name for file in now if times[file.name] != file.mtime]
    return Comparison(False, f"The files have changed: {_named('of other contents', newer)}.")


def _named(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"
