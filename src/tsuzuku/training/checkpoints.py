"""Writing checkpoints beside the step loop, and opening them safely."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint, DiskFull, TsuzukuError
from tsuzuku.core.shortages import ran_out_of_memory, says_nothing_of_the_file
from tsuzuku.core.trees import is_tree
from tsuzuku.core.unpacking import require_bounded
from tsuzuku.training import parted
from tsuzuku.training.snapshot import Snapshot, tensors_in

REQUIRED = ("model_state_dict", "epoch", "config")
FRESH = "--fresh begins a new run without it."
MOST_PLACES = 10_000
"""In which one container may be: an optimizer's groups share a tuple of settings."""
HOLDERS = (torch.Tensor, dict, list, tuple, set, frozenset)
DEEPEST = 64
"""Containers within containers."""
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


def load(path: Path, *, folder: Path | None = None, whole: bool = True) -> dict[str, Any]:
    """Open a checkpoint without running any code of it; tensors are on the CPU.

    One in parts comes as if it were one file; with `whole=False` its sharded tensors are
    `Scattered`, and nothing of them has been read yet. `folder`: where the parts are, if not
    beside the file.

    Raises CorruptCheckpoint if it is truncated, holds anything but plain containers and tensors,
    or lacks one of `model_state_dict`, `epoch`, `config`; TsuzukuError where memory, rights or
    file handles are lacking, which says nothing about the file.
    """
    loaded = _opened(path)
    if not parted.is_parted(loaded):
        return loaded
    beside = folder or parts.folder_of(path)
    try:
        return parted.together(path, loaded, beside, whole=whole)
    except FileNotFoundError:
        # somebody may have made one file of it since it was opened
        again = _opened(path)
        if not parted.is_parted(again):
            return again
        raise CorruptCheckpoint(
            f"{path.name} has its tensors in parts, which are not all in {beside}.",
            "Use it where it was saved, or after `tsuzuku gather`, which makes one file of it.",
        ) from None


def _opened(path: Path) -> dict[str, Any]:
    """What is in the file alone."""
    if not path.exists():
        raise CorruptCheckpoint(f"{path} does not exist.", code="no_checkpoint")
    try:
        require_bounded(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        _require_plain(loaded, path.name)
    except CorruptCheckpoint:
        raise
    except pickle.UnpicklingError as error:
        first = str(error).split("Please file an issue")[0]
        unsafe = "GLOBAL" in first or "Unsupported" in first
        why = (
            "it holds more than tensors and plain containers, and opening it would run its code"
            if unsafe
            else "its contents cannot be read"
        )
        raise CorruptCheckpoint(
            f"{path.name} was refused: {why}.", code="unsafe_checkpoint"
        ) from None
    except Exception as error:
        if says_nothing_of_the_file(error):
            raise TsuzukuError(
                f"{path.name} cannot be opened now: {error}.",
                "The file may be fine; try again when there is room.",
                code="out_of_memory" if ran_out_of_memory(error) else "unreadable",
            ) from None
        # whatever a damaged file makes the reader stumble over
        said = "its contents make no sense"
        if isinstance(error, RuntimeError | OSError):
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CorruptCheckpoint(f"{path.name} cannot be opened: {said[:200]}.") from None
    if not is_tree(loaded):
        raise CorruptCheckpoint(f"{path.name} holds a {type(loaded).__name__}, not a checkpoint.")
    missing = [key for key in REQUIRED if key not in loaded]
    if missing:
        raise CorruptCheckpoint(f"{path.name} is no checkpoint: it lacks {', '.join(missing)}.")
    state = loaded["model_state_dict"]
    if not is_tree(state) or not state:
        raise CorruptCheckpoint(f"{path.name} has no weights in model_state_dict.")
    return loaded


def _require_plain(loaded: Any, name: str) -> None:
    """Refuse what is small in a file and endless in memory: containers that hold each other many
    times over, tensors that claim more values than there are bytes."""
    ahead: list[tuple[Any, int]] = [(loaded, 0)] if isinstance(loaded, HOLDERS) else []
    places: dict[int, int] = {}
    while ahead:
        value, depth = ahead.pop()
        if isinstance(value, torch.Tensor):
            _require_bytes(value, name)
            continue
        inner: Collection[Any] = value.values() if is_tree(value) else value
        places[id(value)] = places.get(id(value), 0) + bool(inner)
        if depth > DEEPEST or places[id(value)] > MOST_PLACES:
            raise CorruptCheckpoint(f"{name} was refused: its containers are nested without end.")
        ahead += [(part, depth + 1) for part in inner if isinstance(part, HOLDERS)]


def _require_bytes(tensor: torch.Tensor, name: str) -> None:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if plain and not tensor.is_quantized:
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() <= held:
            return
    raise CorruptCheckpoint(
        f"{name} was refused: it holds a tensor of {list(tensor.shape)} without all its values."
    )


def check_weights(model: torch.nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Raise CorruptCheckpoint, naming the first tensor that differs, unless it fits `model`."""
    own = model.state_dict()
    for key, tensor in own.items():
        if key not in state:
            raise CorruptCheckpoint(
                f"{name} is of another model: it has no {key!r}.", FRESH, code="other_model"
            )
        shape = getattr(state[key], "shape", None)
        if isinstance(tensor, torch.Tensor) and shape != tensor.shape:
            raise CorruptCheckpoint(
                f"{name} is of another model: {key!r} has the shape "
                f"{list(shape) if shape is not None else 'of no tensor'} there and "
                f"{list(tensor.shape)} here.",
                FRESH,
                code="other_model",
            )
    extra = next((key for key in state if key not in own), None)
    if extra is not None:
        raise CorruptCheckpoint(
            f"{name} is of another model: {extra!r} is not in this one.", FRESH, code="other_model"
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
