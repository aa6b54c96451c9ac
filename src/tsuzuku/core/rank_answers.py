"""What `GET /api/runs/{run_id}/ranks` and a rank's log answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tsuzuku.core.answers import Answer

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RankInfo(Answer):
    """One of the processes that train a run together. What it has not told yet is null."""

    rank: Count
    host: str = ""
    pid: Count | None = None
    device: str | None = None
    alive: bool = False
    batches_per_second: Amount | None = None
    own_ms: Amount | None = None
    """Milliseconds that it takes for a batch when it does not wait for the others."""
    memory: Count | None = None
    device_memory: Count | None = None
    """At most, of a GPU."""
    straggler: bool = False
    """Whether the others wait for it: its `own_ms` is much more than theirs."""


class Placement(Answer):
    """Where the ranks of a run's newest attempt are, and how they fare."""

    run_id: str
    attempt: int
    """0 before the first."""
    launcher: str = "local"
    time: float | None = None
    """When it was put down; null where there are no ranks."""
    ranks: list[RankInfo] = []
    """Empty where one process trains the run."""


class RankLog(Answer):
    """The end of what a rank has printed, over all attempts."""

    run_id: str
    rank: int
    text: str
    earlier: bool
    """Whether there is more before it."""
