"""What went wrong in a training, as one sentence for a person."""

from __future__ import annotations

import traceback
from pathlib import Path

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.shortages import less_memory, ran_out_of_memory
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.plugins import sentence


def explained(error: Exception, run: RunDir | None) -> TsuzukuError:
    """What went wrong in one sentence, wherever in a run's training it came from."""
    if isinstance(error, TsuzukuError):
        return error
    text = sentence(error)
    if run is None:
        return TsuzukuError(text, code="training_failed")
    if ran_out_of_memory(error):
        training = RunSettings.model_validate(run.read_identity()["requested"]).training
        ranks, at_once = training.distributed.ranks, training.device_batch_size
        hint = less_memory(run.run_id, training.batch_size, ranks, at_once)
        return TsuzukuError(text, hint, code="out_of_memory")
    if isinstance(error, ConnectionError | EOFError) and any(
        Path(file).name == "dataloader.py" for file, _ in _frames(error)
    ):  # torch says more where it notices before it reads what is cut short
        text = f"A DataLoader worker was killed while it sent a batch ({text})."
    for frame in reversed(_frames(error)):
        path = Path(frame[0])
        if run.source in path.parents:
            where = f"{path.relative_to(run.source)}, line {frame[1]}"
            return TsuzukuError(f"{where}: {text}", code="training_failed")
    return TsuzukuError(text, code="training_failed")


def _frames(error: BaseException) -> list[tuple[str, int | None]]:
    return [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]


def print_traceback(error: BaseException) -> None:
    """For the worker's log, which is where a developer of a plug-in looks."""
    traceback.print_exception(error)
