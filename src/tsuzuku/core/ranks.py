"""Where the ranks of a run are, how they fare, and what they have printed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from statistics import median_low

from tsuzuku.core.errors import NotFound
from tsuzuku.core.rank_answers import Placement, RankInfo, RankLog
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.core.workspace import RunDir

SLOWER = 1.5
"""Times the usual milliseconds above which a rank is one that the others wait for."""

NOTICEABLE = 5.0
"""Milliseconds beyond the usual from which it counts: a busy machine loses some here and there."""

LONGEST = 1 << 20
"""Bytes of a rank's log that are read at most."""


def stragglers(own_ms: Mapping[int, float]) -> frozenset[int]:
    """The ranks that take much longer for a batch than the others do.

    `own_ms`: milliseconds a batch by rank, without waiting for others. What is usual is the lower
    median of all: a slow one does not move it, and never more than half are called slow.
    """
    if not own_ms:
        return frozenset()
    usual = median_low(own_ms.values())
    return frozenset(
        rank for rank, own in own_ms.items() if own > SLOWER * usual and own - usual >= NOTICEABLE
    )


def placement(run: RunDir, attempt: int) -> Placement:
    """What the driver of the run's newest attempt has put down of its ranks.

    An earlier attempt's ranks are gone, and a note that cannot be read says nothing.
    """
    nothing = Placement(run_id=run.run_id, attempt=attempt)
    try:
        note = json.loads(run.places.read_bytes())
        if not is_tree(note) or note.get("attempt") != attempt:
            return nothing
        alive, ranks = note.get("alive"), note.get("ranks")
        # a driver that was killed could not put down that its ranks have ended with it
        held = alive if is_list(alive) and run.worker() is not None else []
        told = [RankInfo.model_validate(one) for one in ranks] if is_list(ranks) else []
        found = Placement.model_validate({**note, "run_id": run.run_id, "ranks": []})
    except (OSError, ValueError, RecursionError):
        return nothing
    slow = stragglers({one.rank: one.own_ms for one in told if one.own_ms is not None})
    found.ranks = [
        one.model_copy(update={"alive": one.rank in held, "straggler": one.rank in slow})
        for one in sorted(told, key=lambda one: one.rank)
    ]
    return found


def log(run: RunDir, rank: int, tail: int) -> RankLog:
    """The last `tail` lines that a rank has printed; raises NotFound if it never was."""
    try:
        with run.rank_log(rank).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(max(size - LONGEST, 0))
            text = file.read(LONGEST)
    except OSError:
        raise NotFound(
            f"Rank {rank} of run {run.run_id} has no log.",
            f"`tsuzuku ranks {run.run_id}` lists its ranks.",
        ) from None
    lines = text.splitlines(keepends=True)
    if begin and len(lines) > 1:
        del lines[0]  # most likely the end of one
    return RankLog(
        run_id=run.run_id,
        rank=rank,
        text=b"".join(lines[-tail:]).decode("utf-8", "replace"),
        earlier=begin > 0 or len(lines) > tail,
    )
