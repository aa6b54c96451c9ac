"""Beginning a run from the copy that it keeps of a file of another program."""

from __future__ import annotations

from typing import Any, Protocol

from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import CorruptCheckpoint, NotFound
from tsuzuku.core.name_fit import some
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.foreign import begin, read_beginning
from tsuzuku.training.state import TrainingState


class Voice(Protocol):
    """Where it says what it found."""

    def say(self, message: str, /, level: str = "info", **values: Any) -> None: ...


def begin_from_file(run: RunDir, state: TrainingState, emit: Voice, origin: dict[str, Any]) -> str:
    """Take over what the file has, and say what it does not; how its run names it as its parent.

    The same bits each time, until the run has a checkpoint of its own. Raises CorruptCheckpoint
    where the copy was altered or does not fit the model, NotFound where it is gone.
    """
    name = str(origin["name"])
    path = run.imports / name
    try:
        digest = checkpoint_files.sha256_of(path)
    except FileNotFoundError:
        raise NotFound(f"{path}, which this run begins from, is gone.") from None
    if digest != origin["sha256"]:
        raise CorruptCheckpoint(f"{path} was altered: its SHA-256 is not that of the file it was.")
    kind = state.settings.training.optimizer
    beginning = read_beginning(
        path, state.model, kind, epoch=int(origin["epoch"]), partial=bool(origin["partial"])
    )
    begin(state, beginning, name)
    if beginning.left or beginning.unused:
        emit.say(
            "import_partial",
            "warning",
            name=name,
            left=some(beginning.left) or "–",
            unused=some(beginning.unused) or "–",
        )
    if beginning.converted:
        emit.say("import_converted", "warning", name=name, names=some(beginning.converted))
    lost = [
        *beginning.lost,
        *(["scheduler"] if state.scheduler else []),
        "data order",
        "randomness",
    ]
    emit.say("lost", "warning", name=name, parts=", ".join(lost))
    emit.say("begun_from", name=name, epoch=state.epoch, step=state.global_step)
    return f"imports/{name}"
