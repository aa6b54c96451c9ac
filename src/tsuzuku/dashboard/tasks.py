"""What a model is for: the word in the title, and the data set that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tsuzuku.core.answers import Status


class Task(NamedTuple):
    word: str
    dataset: str


TASKS = {
    "conformer": Task("ASR", "ljspeech"),
    "vae": Task("VAE", "mnist"),
    "koemorph": Task("KoeMorph", "arkit"),
}


def word(model: str | None) -> str:
    """What the dashboard is called after: a built-in model's task, or the model's own name."""
    if model is None:
        return "ASR"
    return TASKS[model].word if model in TASKS else model


def likely_model(offered: Sequence[str], status: Status | None) -> str | None:
    """The model to begin with: the one that was trained last, or else the first that has a task."""
    if status is not None and status.model_name in offered:
        return status.model_name
    return next((name for name in TASKS if name in offered), next(iter(offered), None))


def likely_dataset(model: str | None, offered: Sequence[str], status: Status | None) -> str | None:
    """The data set to begin with for a model."""
    last = status is not None and status.model_name == model
    if status is not None and last and status.dataset_name in offered:
        return status.dataset_name
    usual = TASKS[model].dataset if model in TASKS else None
    own = next((name for name in offered if name not in _USUAL), next(iter(offered), None))
    return usual if usual in offered else own


_USUAL = {task.dataset for task in TASKS.values()}
