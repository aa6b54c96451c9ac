"""Writing checkpoints beside the step loop."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint, DiskFull, TsuzukuError
from tsuzuku.training import parted
from tsuzuku.training.opening import load
from tsuzuku.training.snapshot import Snapshot, tensors_in

RESERVE = 16 << 20
"""Bytes that stay free on the disk beside a checkpoint, for the events and the log."""

BUFFERED = 1 << 20
"""Bytes that are hashed and written at once."""


class NonFiniteWeights(TsuzukuError):
    """The weights to be saved hold NaN or infinite values."""

    code = "non_finite"


@dataclass(frozen=True)
class Save:
    """One checkpoint that is to be written."""

    path: Path
    state: dict[str, Any]
    info: Mapping[str, Any]
    """What the sidecar says beside size, hash and the table of tensors."""


class CheckpointWriter:
    """Copies a state at once and writes it beside the training; one save at a time.

    The callables run in the writer's thread: `before` when all is written but the name, so that
    what happened before a checkpoint is on record before the checkpoint is; `on_saved` when it is
    durable under its name; `afterwards` then, with what tells whether nobody waits yet.
    """

    together = False
    """Whether every rank writes its part; else the first writes all."""

    def __init__(
        self,
        before: Callable[[], None],
        on_saved: Callable[[CheckpointFile], None],
        afterwards: Callable[[Callable[[], bool]], None] = lambda _: None,
    ) -> None:
        self._before = before
        self._on_saved = on_saved
        self._afterwards = afterwards
        self._awaited = threading.Event()
        self._saved = threading.Event()
        self._snapshot = Snapshot()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._tried_to_open = False

    @property
    def busy(self) -> bool:
        """Whether a save is under way; what comes after one does not count, for it gives way."""
        alive = self._thread is not None and self._thread.is_alive()
        return alive and not self._saved.is_set()

    def start(self, save: Save) -> None:
        """Take the snapshot and write it in the background, after a save that is under way.

        Raises what an earlier save failed with; then nothing new was begun.
        """
        self.wait()
        self._awaited.clear()
        self._saved.clear()
        state, ready = self._snapshot.take(save.state)
        job = Save(save.path, state, save.info)
        self._thread = threading.Thread(target=self._work, args=(job, ready), name="checkpoint")
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether the last save failed; the next `start` or `wait` says why."""
        return self._error is not None

    def wait(self) -> None:
        """Wait for the save under way; raise what it failed with."""
        if self._thread is not None:
            self._awaited.set()
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def finish(self) -> None:
        """Wait for the save under way, whatever comes of it."""
        if self._thread is not None:
            self._thread.join()

    def _work(self, save: Save, ready: torch.cuda.Event | None) -> None:
        try:
            _be_modest()
            if ready is not None:
                ready.synchronize()
            self._make(save)
            self._tried_to_open = True
            self._saved.set()
            self._afterwards(lambda: not self._awaited.is_set())
        except BaseException as error:
            self._error = error

    def _make(self, save: Save) -> None:
        self._on_saved(write(save, self._before, try_to_open=not self._tried_to_open))


def write(
    save: Save,
    before: Callable[[], None] = lambda: None,
    *,
    try_to_open: bool = True,
    folder: Path | None = None,
) -> CheckpointFile:
    """Write, hash, fsync and name a checkpoint; it is there as a whole or not at all.

    With `try_to_open` it is first opened as a resume would, since a module may keep things in its
    state that nobody opens safely again. `folder` holds its parts, if it has any: durable, and as
    the state says.

    Raises NonFiniteWeights, DiskFull, or TsuzukuError for another failure of the disk.
    """
    require_finite(save.state["model_state_dict"])
    draft = checkpoint_files.temporary(save.path)
    try:
        size, sha256 = written(save.state, draft)
        listed = {parts.KEY: save.state[parts.KEY]} if folder is not None else {}
        info = {
            "name": save.path.name,
            "size": size + sum(part.size for part in parts.listed(listed)),
            "sha256": sha256,
            **listed,
            **save.info,
            "tensors": _shapes(save.state),
        }
        if try_to_open:
            load(draft, folder=folder, whole=False)
        before()
        return checkpoint_files.publish(save.path, info, folder)
    except BaseException as error:
        # a file whose fsync failed is never tried again: the kernel has forgotten what was dirty
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk_error(error, save.path) from error
        if isinstance(error, CorruptCheckpoint):
            raise TsuzukuError(
                f"The model's or the optimizer's state cannot be saved safely: {error.detail}",
                "A state_dict, get_extra_state included, holds tensors and plain containers only.",
                code="unsafe_state",
            ) from error
        if isinstance(error, TsuzukuError | MemoryError) or not isinstance(error, Exception):
            raise
        raise TsuzukuError(
            f"The state could not be written: {type(error).__name__}: {error}", code="unsafe_state"
        ) from error


def written(state: Mapping[str, Any], draft: Path) -> tuple[int, str]:
    """Save `state` at `draft`, durably; its size and its SHA-256."""
    with draft.open("wb", buffering=0) as raw:
        file = HashingFile(raw)
        try:
            # torch writes a zip file's small parts one by one: together they cost the training
            # a turn at Python's lock instead of a hundred
            with io.BufferedWriter(file, BUFFERED) as buffer:
                torch.save(state, buffer)  # pyright: ignore[reportArgumentType]
        except Exception:
            # what the disk said, rather than what torch made of it
            if file.failed is not None:
                raise file.failed from None
            raise
        os.fsync(raw.fileno())
    return file.size, file.hash.hexdigest()


def _shapes(state: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Type and shape of every weight, in the order of the model."""
    weights = state["model_state_dict"]
    own = {
        name: [str(t.dtype).removeprefix("torch."), list(t.shape)]
        for name, t in tensors_in(weights).items()
    }
    own |= parted.shapes(state)
    return {name: own[name] for name in weights if name in own} | own


def disk_error(error: OSError, path: Path) -> TsuzukuError:
    """One sentence for a write that failed."""
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {path.name} could not be written ({said}).")
    return TsuzukuError(f"{path} could not be written: {said}.", code="write_failed")


def bytes_needed(state: Any) -> int:
    """An upper estimate of the size of a checkpoint of `state`."""
    tensors = tensors_in(state).values()
    return sum(t.numel() * t.element_size() + 256 for t in tensors) + (1 << 20)


def require_room(folder: Path, needed: int) -> None:
    """Raise DiskFull unless `needed` bytes and the reserve are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise DiskFull(
            f"The disk is full: a checkpoint needs {(needed + RESERVE) / 2**20:,.1f} MiB in "
            f"{folder} and {free / 2**20:,.1f} MiB are free."
        )


class HashingFile(io.RawIOBase):
    """Hashes what goes by, so that the file need not be read again; short writes are completed."""

    def __init__(self, raw: io.RawIOBase | io.FileIO) -> None:
        self.raw = raw
        self.hash = hashlib.sha256()
        self.size = 0
        self.failed: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self.hash.update(view)
        try:
            written = 0
            while written < len(view):
                written += self.raw.write(view[written:]) or 0
        except OSError as error:
            self.failed = error
            raise
        self.size += len(view)
        return len(view)


def require_finite(state: Mapping[str, Any]) -> None:
    for name, tensor in tensors_in(state).items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        # one pass over memory: a sum is finite if all terms are (unless it overflows: then look)
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise NonFiniteWeights(
                f"The weights {name!r} hold values that are not finite; they were not saved.",
                "Lower training.learning_rate or set training.grad_clip_thresh.",
            )


def _be_modest() -> None:
    """Let the training go first where both want the processor."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
