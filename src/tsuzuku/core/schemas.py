"""The shared vocabulary: what runs, events, checkpoints and curves look like to everybody."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tsuzuku.core.trees import is_list, is_tree

Status = Literal[
    "starting", "running", "stopping", "stopped", "completed", "failed", "crashed", "paused"
]
EventType = Literal["log", "progress", "validation_result", "checkpoint", "status", "error"]

ACTIVE: frozenset[str] = frozenset({"starting", "running", "stopping", "paused"})
"""Statuses in which a worker is expected to be alive."""

FINAL: frozenset[str] = frozenset({"stopped", "completed", "failed", "crashed"})
"""Statuses in which no worker is left."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Event(Record):
    """One thing that happened. `seq` is 0 until the store has given it its number."""

    type: EventType
    payload: dict[str, Any]
    run_id: str | None = None
    time: float
    """Seconds since the Unix epoch."""
    seq: int = 0


class Attempt(Record):
    """One worker process that works, or worked, on a run."""

    run_id: str
    attempt: int
    pid: int
    hostname: str
    started_at: float
    ended_at: float | None = None
    status: Status
    resumed_from: str | None = None
    """`run_id/name` of the checkpoint that it went on from."""
    start_step: int = 0
    """The global step at which it began."""


class Run(Record):
    """One training history."""

    run_id: str
    model_name: str
    dataset_name: str
    status: Status
    created_at: float
    updated_at: float
    parent: str | None = None
    """`run_id/name` of the checkpoint that this run branched from."""
    fine_tuning: bool = False
    """Whether only the weights came along: its steps count from the beginning."""
    attempt: int = 0
    """The number of the newest attempt; the first is 1."""
    epoch: int = 0
    """Completed epochs."""
    global_step: int = 0
    total_epochs: int = 0
    best_metric: float | None = None
    """Best value so far of `training.checkpoint.monitor`."""
    message: str = ""


class Checkpoint(Record):
    """One checkpoint file as its sidecar describes it."""

    name: str
    run_id: str
    model_name: str
    dataset_name: str
    epoch: int
    global_step: int
    path: str
    size: int
    """Bytes."""
    sha256: str
    created_at: float
    metrics: dict[str, float | None]
    is_best: bool = False
    is_latest: bool = False
    kept_because: list[str] = []
    verified: bool = False
    pinned: bool = False


class Curve(Record):
    """One metric over the steps, at most as many buckets as were asked for.

    The four lists have equal lengths; `value` is the mean of a bucket, `min` and `max` bound it.
    A value that was not finite, or a bucket with nothing finite in it, is None.
    """

    step: list[int]
    value: list[float | None]
    min: list[float | None]
    max: list[float | None]


def jsonable(value: Any) -> Any:
    """`value` as every reader of JSON takes it: NaN and infinity as None, and half a surrogate
    pair (of a file name that is no UTF-8, say) as its escape.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):  # most of what is left in an event; it spares the questions below
        return value
    if is_tree(value):
        return {jsonable(str(k)): jsonable(v) for k, v in value.items()}
    if is_list(value):
        return [jsonable(v) for v in value]
    return value


def is_detail(metric: str) -> bool:
    """Whether a metric is one of many that another sums up: `correlation/jawOpen`, say.

    It is stored like any other, and left out where a few numbers are shown of each.
    """
    return "/" in metric
