"""Curves along a run's history: joined with those of the runs that it branched from.

A run that branched off at step N shows its ancestor's points up to N and its own after that. What
the ancestor trained beyond N belongs to another history: it is this one's tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tsuzuku.core.answers import Resume, Tail
from tsuzuku.core.importing import is_import
from tsuzuku.core.schemas import Curve
from tsuzuku.core.store import Store


@dataclass(frozen=True)
class Segment:
    """The part of a curve that a run brings: steps after `after`, up to `until`."""

    run_id: str
    after: int = 0
    until: int | None = None


def alone(run_id: str) -> list[Segment]:
    """A run without its ancestors."""
    return [Segment(run_id, after=-1)]


def segments(store: Store, run_id: str) -> list[Segment]:
    """A run with those that it descends from, oldest first."""
    chain: list[Segment] = []
    seen: set[str] = set()
    until: int | None = None
    current: str | None = run_id
    while current is not None and current not in seen:
        seen.add(current)
        run = store.run(current)
        if run is None and chain:  # an ancestor that was deleted has nothing to show
            break
        parent = run.parent if run else None
        after = branched_at(store, current, parent) if parent else -1
        if run is not None and run.fine_tuning:
            after = 0  # its steps count from the beginning
        chain.append(Segment(current, after, until))
        # nothing of an ancestor counts beyond the earliest branch below it
        until = after if until is None else min(after, until)
        # a file of another program has no curves
        current = parent.rpartition("/")[0] if parent and not is_import(parent) else None
    return chain[::-1]


def branched_at(store: Store, run_id: str, parent: str) -> int:
    """The global step of the checkpoint that a run branched from; -1 if nobody knows it."""
    origin, _, name = parent.rpartition("/")
    found = store.checkpoints(run_id=origin, name=name, limit=1)
    if found:
        return found[0].global_step
    # the checkpoint is gone, but the first attempt that has loaded it noted where that was
    noted = (a.start_step for a in store.attempts(run_id) if a.resumed_from == parent)
    return next((step for step in noted if step > 0), -1)


def curve(
    store: Store,
    parts: Sequence[Segment],
    key: str,
    points: int,
    first: int | None = None,
    last: int | None = None,
) -> Curve:
    """One metric over all segments, at most `points` buckets."""
    ranges: list[tuple[Segment, int | None, int | None]] = []
    for part in parts:
        low = max(part.after + 1, first or 0)
        bounds = [step for step in (last, part.until) if step is not None]
        high = min(bounds, default=None)
        if high is None or low <= high:
            ranges.append((part, low, high))
    whole = Curve(step=[], value=[], min=[], max=[])
    pieces = [
        store.curve(part.run_id, key, points=points, from_step=low, to_step=high)
        for part, low, high in ranges
    ]
    shares = _shares([len(piece.step) for piece in pieces], points)
    for (part, low, high), found, share in zip(ranges, pieces, shares, strict=True):
        if not share:
            continue
        piece = found
        if share < len(found.step):
            piece = store.curve(part.run_id, key, points=share, from_step=low, to_step=high)
        whole.step += piece.step
        whole.value += piece.value
        whole.min += piece.min
        whole.max += piece.max
    return whole


def tails(
    store: Store,
    parts: Sequence[Segment],
    key: str,
    points: int,
    first: int | None = None,
    last: int | None = None,
) -> list[Tail]:
    """What each ancestor trained beyond the branch, at most `points` buckets each, oldest first.

    A tail of which nothing lies between `first` and `last` is left out, as is that of an ancestor
    of which nobody knows where it was left.
    """
    found: list[Tail] = []
    for part in parts:
        if part.until is None or part.until < 0:
            continue
        low = max(part.until, part.after) + 1
        piece = store.curve(
            part.run_id, key, points=points, from_step=max(low, first or 0), to_step=last
        )
        if piece.step:
            found.append(Tail(run_id=part.run_id, after=part.until, **piece.model_dump()))
    return found


def _shares(sizes: Sequence[int], points: int) -> list[int]:
    """How many of `points` buckets each piece gets, in proportion; at least one while they last."""
    total = sum(sizes)
    if total <= points:
        return list(sizes)
    shares = [max(min(size, 1), size * points // total) for size in sizes]
    while sum(shares) > points:
        shares[shares.index(max(shares))] -= 1
    return shares


def resumes(store: Store, parts: Sequence[Segment]) -> list[Resume]:
    """Where, along the segments, a training went on."""
    found: list[Resume] = []
    for part in parts:
        for attempt in store.attempts(part.run_id):
            # one that went on from the branch's own checkpoint is of the other history as well
            beyond = part.until is not None and attempt.start_step >= part.until
            # and one that has noted no step has not loaded its checkpoint
            if attempt.resumed_from is not None and attempt.start_step > 0 and not beyond:
                found.append(
                    Resume(
                        step=attempt.start_step,
                        time=attempt.started_at,
                        run_id=part.run_id,
                        attempt=attempt.attempt,
                        resumed_from=attempt.resumed_from,
                    )
                )
    return found
