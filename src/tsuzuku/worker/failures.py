"""What went wrong in a training, as one sentence for a person."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.plugins import sentence


def explained(error: Exception, run: RunDir) -> TsuzukuError:
    """What went wrong in one sentence, wherever it came from."""
    if isinstance(error, TsuzukuError):
        return error
    text = sentence(error)
    if ran_out_of_memory(error):
        return TsuzukuError(
            text,
            "Halve training.batch_size and double training.accumulate_grad_batches.",
            code="out_of_memory",
        )
    for frame in reversed(_frames(error)):
        path = Path(frame[0])
        if run.source in path.parents:
            where = f"{path.relative_to(run.source)}, line {frame[1]}"
            return TsuzukuError(f"{where}: {text}", code="training_failed")
    return TsuzukuError(text, code="training_failed")


NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What CUDA, torch's allocator for the CPU and the operating system say."""


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether that is what `error` came from; one that explains another counts as well."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError | OSError) and any(w in text for w in NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _frames(error: BaseException) -> list[tuple[str, int | None]]:
    return [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]


def print_traceback(error: BaseException) -> None:
    """For the worker's log, which is where a developer of a plug-in looks."""
    traceback.print_exception(error)
