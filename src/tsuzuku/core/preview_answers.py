"""What `POST /api/train/resume/preview` answers."""

from __future__ import annotations

from typing import Any, Literal

from tsuzuku.core.answers import Answer


class Change(Answer):
    """A setting that differs."""

    key: str
    old: Any = None
    new: Any = None
    changes_result: bool


class Component(Answer):
    """One part of a training's state, and what becomes of it."""

    name: str
    verdict: Literal["exact", "approximate", "lost"]
    why: str


class SourceChange(Answer):
    """A plug-in's file that is another one than the run began with."""

    file: str
    """`models/<name>.py` or `datasets/<name>.py`."""
    old_sha256: str
    new_sha256: str
    diff: str
    """In unified format; its end may be left out. Empty where the run's copy is gone."""


class ProofOnRecord(Answer):
    """What `tsuzuku prove` has found out about a model and a data set."""

    exact: bool
    """Whether a training that was killed arrived at the bits of one that was not."""
    current: bool
    """Whether that was with the files that a resume would train with, and with this torch."""
    stale_because: list[str] = []
    """What has changed since: files of plug-ins, `torch`."""
    kills: int
    steps: int
    time: float
    """Seconds since the epoch."""


class Preview(Answer):
    mode: Literal["fresh", "continue", "branch", "finished"]
    fine_tuning: bool = False
    """Whether only the weights come along."""
    run_id: str | None = None
    checkpoint: str | None = None
    """`run_id/name`."""
    epoch: int = 0
    global_step: int = 0
    total_epochs: int
    differences: list[Change] = []
    components: list[Component] = []
    sources: list[SourceChange] = []
    proof: ProofOnRecord | None = None
