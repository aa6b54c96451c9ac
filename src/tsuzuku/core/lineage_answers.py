"""What the HTTP API answers of runs and their branches."""

from __future__ import annotations

from typing import Literal

from tsuzuku.core.answers import Answer
from tsuzuku.core.schemas import Status


class Branch(Answer):
    """Where a run left another one's history."""

    run_id: str
    """The other run."""
    checkpoint: str
    """The name of its checkpoint."""
    global_step: int | None = None
    """Null where nobody knows it any more."""
    fine_tuning: bool = False
    """Whether only the weights came along; the run's steps then count from the beginning."""
    state: Literal["there", "checkpoint_deleted", "run_deleted", "circular", "imported"]
    """Whether that checkpoint can still be gone on from. `imported`: it is a file of another
    program, and `run_id` is empty. `circular`: by its parents a run descends from itself, which
    only edited data says; its family is shown as if it began here."""


class Stretch(Answer):
    """What an attempt brought to its run."""

    attempt: int
    from_step: int | None
    """The global step at which it began; null if it ended before it had loaded its checkpoint."""
    to_step: int | None
    """The last step of it that counts: where the next attempt went on, or how far the run is. Null
    if nothing of it counts."""
    status: Status
    resumed_from: str | None
    """`run_id/name` of the checkpoint that it went on from."""


class Mark(Answer):
    """A checkpoint of a run."""

    name: str
    epoch: int
    global_step: int
    is_best: bool
    is_latest: bool
    pinned: bool
    there: bool
    """Whether its file is."""


class Relative(Answer):
    """A run in its family."""

    run_id: str
    model_name: str
    dataset_name: str
    status: Status
    created_at: float
    epoch: int
    """Completed epochs."""
    total_epochs: int
    global_step: int
    best_metric: float | None
    depth: int
    """Branches between the family's first run and this one."""
    branch: Branch | None
    """Null for a run that began anew."""
    attempts: list[Stretch]
    """Oldest first."""
    checkpoints: list[Mark]
    """By their step."""


class Lineage(Answer):
    """Runs as families: each after the one that it branched from, with its branches after it.

    Families have the one with the newest run first, and branches of one run the oldest.
    """

    runs: list[Relative]
    total: int
    """Runs in these families, of which `limit` may have left out the last."""
