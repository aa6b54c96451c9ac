"""Looks in the background whether checkpoints are still what was saved: disks forget, too.

Only bytes are compared, so the server needs no torch for it; `verify` looks at weights as well.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint, NotFound, TsuzukuError
from tsuzuku.core.finding import tip
from tsuzuku.core.links import relink
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

log = logging.getLogger("tsuzuku.server")

FIRST = 60.0
"""Seconds after its start that a server begins to look: it has better things to do before."""
AT_REST = 300.0
"""Seconds between two looks for something to look at."""
PART = 4 << 20
"""Bytes that are read at once."""
SHARE = 0.1
"""Of the time that reading and hashing may take: trainings run on the same disks and cores."""


class Verification:
    """Checks each checkpoint every `hours`, the newest first. A thread of its own does it."""

    def __init__(
        self, workspace: Workspace, store: Store, hours: float | None, language: Language
    ) -> None:
        self.workspace = workspace
        self.store = store
        self.hours = hours
        self.language: Language = language
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="verification", daemon=True)

    def start(self) -> None:
        if self.hours is not None:
            self._thread.start()

    def close(self) -> None:
        """Stop looking; what is half read is read again another time."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """Check the next one that is due; whether there was one."""
        hours = self.hours or 0.0
        found = self.store.next_to_check(time.time() - hours * 3600)
        if found is None:
            return False
        run_id, name = found
        try:
            run = self.workspace.run_dir(run_id)
        except NotFound:
            self.store.drop_checkpoint(run_id, name)
            return True
        path = run.checkpoints / name
        if not path.exists():  # deleted by hand
            self.store.drop_checkpoint(run_id, name)
            return True
        try:
            file = checkpoint_files.read(path)
        except CorruptCheckpoint as error:
            self._set_aside(run, path, error.detail)
            return True
        if self._sound(file):
            self.store.note_check(run_id, name, str(file.info["sha256"]), time.time())
        elif not self._ended.is_set():
            self._judge(run, file)
        return True

    def _watch(self) -> None:
        wait = FIRST
        while not self._ended.wait(wait):
            try:
                wait = 0.0 if self.look() else AT_REST
            except (TsuzukuError, OSError) as error:
                log.warning("checkpoints cannot be looked at just now: %s", error)
                wait = AT_REST

    def _sound(self, file: CheckpointFile) -> bool:
        """Whether the bytes are those of the sidecar, and of all parts; read slowly."""
        right = {file.path: str(file.info["sha256"])}
        folder = parts.folder_of(file.path)
        right |= {folder / part.name: part.sha256 for part in parts.listed(file.info)}
        try:
            return all(self._hash(path) == sha256 for path, sha256 in right.items())
        except FileNotFoundError:
            return False

    def _hash(self, path: Path) -> str | None:
        """Of a file; None if there was no time for it."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            began = time.monotonic()
            while part := stream.read(PART):
                digest.update(part)
                if self._ended.wait((time.monotonic() - began) * (1 / SHARE - 1)):
                    return None
                began = time.monotonic()
        return digest.hexdigest()

    def _judge(self, run: RunDir, file: CheckpointFile) -> None:
        """Look again, at once: it may have been compressed, replaced or deleted meanwhile."""
        if not file.path.exists():
            self.store.drop_checkpoint(run.run_id, file.name)
            return
        try:
            checkpoint_files.check(file)
        except CorruptCheckpoint as error:
            self._set_aside(run, file.path, error.detail)
            return
        info = checkpoint_files.read(file.path).info
        self.store.resize_checkpoint(run.run_id, file.name, int(info["size"]), str(info["sha256"]))

    def _set_aside(self, run: RunDir, path: Path, why: str) -> None:
        if not path.exists():
            return
        best = [p for p in run.checkpoints.glob("*") if p != path and _same(p, path)]
        new = checkpoint_files.set_aside(path)
        for other in best:  # the same bytes under another name
            if not _has_good_parts(other):
                checkpoint_files.set_aside(other)
        self.store.drop_checkpoint(run.run_id, path.name)
        relink(run)
        newest = tip(run)
        message = text(
            "found_damaged",
            self.language,
            {
                "name": path.name,
                "new": new.name,
                "why": why.rstrip("."),
                "next": newest.name if newest else "–",
            },
        )
        log.error("%s", message)
        payload = {"level": "error", "message": message}
        now = time.time()
        self.store.append([Event(type="log", payload=payload, run_id=run.run_id, time=now)])


def _same(one: Path, other: Path) -> bool:
    return one.suffix in checkpoint_files.SUFFIXES and not one.is_symlink() and one.samefile(other)


def _has_good_parts(path: Path) -> bool:
    """Whether a checkpoint is in parts and whole: it has names of its own for them."""
    try:
        file = checkpoint_files.read(path)
        checkpoint_files.check(file)
    except CorruptCheckpoint:
        return False
    return parts.KEY in file.info
