"""Where a global step lies in epochs, along a run and those that it branched from."""

from __future__ import annotations

from dataclasses import dataclass

from tsuzuku.core.answers import Progress, RunInfo


@dataclass(frozen=True)
class Stretch:
    """A run's own part of a curve: steps after `after` have `per_epoch` to an epoch."""

    after: int
    step: int
    """A step whose place in epochs is known …"""
    epoch: float
    """… and that place."""
    per_epoch: int

    def at(self, step: int) -> float:
        return self.epoch - (self.step - step) / self.per_epoch


def stretch(run: RunInfo, progress: Progress) -> Stretch | None:
    """The run's own part; None where it has not reported yet."""
    if progress.total_steps < 1 or progress.current_epoch < 1:
        return None
    after = run.attempts[0].start_step if run.parent and run.attempts else -1
    reached = progress.current_epoch - 1 + progress.current_step / progress.total_steps
    return Stretch(after, progress.global_step, reached, progress.total_steps)


def epochs(steps: list[int], stretches: list[Stretch]) -> list[float | None]:
    """Each step in epochs; `stretches` are those of a lineage, oldest first."""
    places: list[float | None] = []
    for step in steps:
        own = [one for one in stretches if step > one.after]
        places.append(own[-1].at(step) if own else None)
    return places
