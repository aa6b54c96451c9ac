"""Which checkpoints are saved and which are kept, and why. Pure functions of plain values."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tsuzuku.core.settings import CheckpointSettings


@dataclass(frozen=True)
class Candidate:
    """What retention needs to know of one checkpoint."""

    name: str
    epoch: int
    """Completed epochs."""
    global_step: int
    value: float | None
    """The monitored metric, None where it was not measured."""
    end_of_epoch: bool
    pinned: bool = False


def reasons_to_save(epoch: int, last: int, improved: bool, policy: CheckpointSettings) -> list[str]:
    """Why a checkpoint is due after `epoch` completed epochs of `last`; empty if it is not."""
    reasons: list[str] = []
    if epoch >= last:
        reasons.append("last")
    if improved:
        reasons.append("best")
    if policy.save_best_only:
        return reasons
    if epoch % policy.save_freq == 0:
        reasons.append("interval")
    if epoch in policy.milestones:
        reasons.append("milestone")
    return reasons


def is_better(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether `value` beats `best` by more than `min_delta`; a NaN beats nothing."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value < best - min_delta if mode == "min" else value > best + min_delta


def decide(
    checkpoints: Sequence[Candidate],
    policy: CheckpointSettings,
    in_use: Collection[str] = (),
) -> dict[str, list[str]]:
    """For each checkpoint by name, the reasons to keep it; no reason means that it may go.

    A checkpoint stays if any reason holds. The newest one always has a reason.
    """
    ordered = sorted(checkpoints, key=lambda c: (c.global_step, c.epoch, c.name), reverse=True)
    reasons: dict[str, list[str]] = {c.name: [] for c in ordered}
    for rank, c in enumerate(ordered):
        if rank == 0:
            reasons[c.name].append("latest")
        if policy.keep_last_n is None:
            reasons[c.name].append("all")
        elif rank < policy.keep_last_n:
            reasons[c.name].append(f"last {policy.keep_last_n}")
        if c.end_of_epoch and c.epoch in policy.milestones:
            reasons[c.name].append(f"milestone {c.epoch}")
        if c.pinned:
            reasons[c.name].append("pinned")
        if c.name in in_use:
            reasons[c.name].append("in use")
    for c in _best(ordered, policy):
        reasons[c.name].append("best")
    return reasons


def _best(checkpoints: Sequence[Candidate], policy: CheckpointSettings) -> list[Candidate]:
    measured = [(c.value, c) for c in checkpoints if c.value is not None and math.isfinite(c.value)]
    sign = 1 if policy.mode == "min" else -1
    # among equals the older one is the best, as the run saw it then
    measured.sort(key=lambda pair: (sign * pair[0], pair[1].global_step))
    return [c for _, c in measured[: policy.keep_best_n]]
