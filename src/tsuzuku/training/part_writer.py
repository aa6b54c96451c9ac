"""Saving in parts: each rank writes what it holds, beside its training; the first publishes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.core.parts import Part
from tsuzuku.training.checkpoints import (
    CheckpointWriter,
    HashingFile,
    NonFiniteWeights,
    Save,
    disk_error,
    require_finite,
    write,
)
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.part_files import write_part

T = TypeVar("T")


class PartWriter(CheckpointWriter):
    """A CheckpointWriter of which every rank has one; the state is what `sharding.cut` gives.

    The writers' threads meet twice a save, in a group of their own, while the trainings go on: when
    each has its part on the disk or has failed, and when the first has published the checkpoint or
    has failed. So a save succeeds on all ranks or fails on all, and nobody gives a name to what is
    not whole. A rank that dies ends its connections, and so the meeting: with an error, not with
    a wait; what is left of the save is swept when the run goes on.
    """

    together = True

    def __init__(
        self,
        ranks: Ranks,
        before: Callable[[], None],
        on_saved: Callable[[CheckpointFile], None],
        afterwards: Callable[[Callable[[], bool]], None] = lambda _: None,
    ) -> None:
        super().__init__(before, on_saved, afterwards)
        self._ranks = ranks.apart()

    def _make(self, save: Save) -> None:
        folder = checkpoint_files.temporary(parts.folder_of(save.path))
        try:
            written = self._met(lambda: self._own_part(save, folder))
            self._met(lambda: self._publish(save, folder, written))
        except BaseException:
            if self._ranks.first:  # all have met, so that nobody writes into it any more
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _own_part(self, save: Save, folder: Path) -> Part:
        """Write this rank's pieces, durably, under a name that tells what is in it."""
        pieces: dict[str, Any] = save.state["pieces"]
        weights = "model_state_dict."
        require_finite({k.removeprefix(weights): v for k, v in pieces.items() if weights in k})
        number, world = self._ranks.rank + 1, self._ranks.world
        draft = folder / f".part-{number}.tmp"
        try:
            folder.mkdir(exist_ok=True)
            with draft.open("wb", buffering=0) as raw:
                file = HashingFile(raw)
                write_part(file, pieces, save.state["offsets"])
                os.fsync(raw.fileno())
            sha256 = file.hash.hexdigest()
            name = f"part-{number:05}-of-{world:05}-{sha256[:16]}.safetensors"
            draft.replace(folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            part = save.path.with_name(f"part {number} of {save.path.name}")
            raise disk_error(error, part) from error
        return Part(name, file.size, sha256)

    def _publish(self, save: Save, folder: Path, written: list[Part]) -> None:
        if not self._ranks.first:
            return
        known = {part.name for part in written}
        for left in [one for one in folder.iterdir() if one.name not in known]:
            left.unlink()
        state = {**save.state["rest"], parts.KEY: parts.table(written)}
        whole = Save(save.path, state, save.info)
        file = write(whole, self._before, try_to_open=not self._tried_to_open, folder=folder)
        self._on_saved(file)

    def _met(self, own: Callable[[], T]) -> list[T]:
        """What each rank has done, once all have; raises what went wrong on any, on all."""
        failure: BaseException | None = None
        words: dict[str, Any] = {}
        try:
            words["done"] = own()
        except BaseException as error:
            failure = error
            words["error"] = _in_words(error, self._ranks.rank)
        given = self._ranks.gathered(words)
        if failure is not None:
            raise failure
        for other in given:
            if "error" in other:
                raise _raised(*other["error"])
        return [other["done"] for other in given]


def _in_words(error: BaseException, rank: int) -> tuple[str, str, str]:
    if isinstance(error, TsuzukuError):
        return error.detail, error.hint, error.code
    said = f"Rank {rank} could not save its part: {type(error).__name__}: {error}."
    return said, "", "ranks_failed"


def _raised(detail: str, hint: str, code: str) -> TsuzukuError:
    """What another rank has met, as the training acts on it."""
    kinds = {kind.code: kind for kind in (DiskFull, NonFiniteWeights)}
    return kinds.get(code, TsuzukuError)(detail, hint, code=code)
