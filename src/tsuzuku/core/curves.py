"""The metric pyramid: raw points, and roll-ups of 16, 256, 4096 … steps, in SQLite tables.

A chart of any zoom over ten million steps reads a few thousand rows. All functions here work
inside the transaction of whoever calls them.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.rows import insert
from tsuzuku.core.schemas import Curve

LEVELS = 5
"""Bucket `b` of level `k` holds the steps from `b * 16**k` on; level 0 is the raw points."""

TABLES = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (run_id, key)
);
CREATE TABLE points (
    series INTEGER NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (series, step)
) WITHOUT ROWID;
CREATE TABLE rollups (
    series INTEGER NOT NULL, level INTEGER NOT NULL, bucket INTEGER NOT NULL,
    min REAL, max REAL, sum REAL, count INTEGER NOT NULL,
    PRIMARY KEY (series, level, bucket)
) WITHOUT ROWID;
"""

_ROLL_UP_POINTS = """
INSERT OR REPLACE INTO rollups
SELECT series, 1, step >> 4, min(value), max(value), sum(value), count(value)
FROM points WHERE series IN ({series}) AND step BETWEEN ? AND ? GROUP BY series, step >> 4
"""
_ROLL_UP_BUCKETS = """
INSERT OR REPLACE INTO rollups
SELECT series, level + 1, bucket >> 4, min(min), max(max), sum(sum), sum(count)
FROM rollups WHERE series IN ({series}) AND level = ? AND bucket BETWEEN ? AND ?
GROUP BY series, bucket >> 4
"""

# A statement costs about as much as reading a few dozen rows, so that buckets this near to
# each other are recomputed together with what lies between them.
_NEAR = 32

# Nor are statements made for more series at once than SQLite takes numbers for.
_TOGETHER = 500

_RAW_ROWS = "FROM points WHERE series = ? AND step BETWEEN ? AND ?"
_BUCKET_ROWS = "FROM rollups WHERE series = ? AND level = ? AND bucket BETWEEN ? AND ?"

# How many more rows than buckets asked for may be merged: levels are 16 apart, so that the
# finest level within this factor has at least half as many rows as were asked for.
_MERGED = 8


def write(
    db: sqlite3.Connection,
    steps: Sequence[int],
    values: Mapping[int, Sequence[float | None]],
) -> None:
    """Add what several series had at the same steps, and bring their roll-ups up to date.

    A step that is there is overwritten. A value that is not finite is stored as NULL: its step is
    there, it adds to no roll-up.
    """
    insert(
        db,
        "points",
        [
            (series, step, value if value is not None and math.isfinite(value) else None)
            for series, own in values.items()
            for step, value in zip(steps, own, strict=True)
        ],
        "ON CONFLICT DO UPDATE SET value = excluded.value",
    )
    everyone = list(values)
    for some in (everyone[i : i + _TOGETHER] for i in range(0, len(everyone), _TOGETHER)):
        _roll_up(db, steps, some)


def _roll_up(db: sqlite3.Connection, steps: Sequence[int], series: list[int]) -> None:
    places = ", ".join("?" * len(series))
    points, buckets = (q.format(series=places) for q in (_ROLL_UP_POINTS, _ROLL_UP_BUCKETS))
    ranges = _ranges((bucket, bucket) for bucket in sorted({step >> 4 for step in steps}))
    for first, last in ranges:
        db.execute(points, (*series, first << 4, (last << 4) + 15))
    for level in range(1, LEVELS):
        ranges = _ranges((first >> 4, last >> 4) for first, last in ranges)
        for first, last in ranges:
            db.execute(buckets, (*series, level, first << 4, (last << 4) + 15))


def _ranges(ascending: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (first, last), ascending, with those joined that touch or lie near each other."""
    joined: list[tuple[int, int]] = []
    for first, last in ascending:
        if joined and first - joined[-1][1] <= _NEAR:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def raw(db: sqlite3.Connection, series: int) -> list[tuple[int, float | None]]:
    """All points of a series, ascending."""
    return db.execute(
        "SELECT step, value FROM points WHERE series = ? ORDER BY step", (series,)
    ).fetchall()


def read(
    db: sqlite3.Connection, series: int, points: int, from_step: int | None, to_step: int | None
) -> Curve:
    """The curve between two steps (both included) in at most `points` buckets of equal width.

    Where the range holds no more than `points` raw points, these, exactly. Elsewhere minimum,
    maximum and mean of every bucket are those of the raw points in it; its `step` is a step at
    or before the first of them, and after the bucket before.
    """
    if points < 1:
        raise WrongInput(f"points: {points} is less than 1.", "Ask for at least one point.")
    first, last = db.execute(
        "SELECT (SELECT min(step) FROM points WHERE series = ?1),"
        " (SELECT max(step) FROM points WHERE series = ?1)",
        (series,),
    ).fetchone()
    if first is None:
        return Curve(step=[], value=[], min=[], max=[])
    # Clamped to the points, so that the range is never wider than it must be.
    first = first if from_step is None else max(first, from_step)
    last = last if to_step is None else min(last, to_step)
    if first > last:
        return Curve(step=[], value=[], min=[], max=[])
    if _rows(db, series, 0, first, last, points) <= points:
        rows = db.execute(
            f"SELECT step, value {_RAW_ROWS} ORDER BY step", (series, first, last)
        ).fetchall()
        values = [value for _, value in rows]
        return Curve(step=[step for step, _ in rows], value=values, min=values, max=values)
    return _merged(db, series, points, first, last)


def _rows(
    db: sqlite3.Connection, series: int, level: int, first: int, last: int, enough: int
) -> int:
    """How many rows a level has from step `first` to step `last`, counted up to `enough` + 1."""
    if level == 0:
        where, bound = _RAW_ROWS, (series, first, last)
    else:
        where, bound = _BUCKET_ROWS, (series, level, first >> 4 * level, last >> 4 * level)
    query = f"SELECT count(*) FROM (SELECT 1 {where} LIMIT ?)"
    return db.execute(query, (*bound, enough + 1)).fetchone()[0]


def _merged(db: sqlite3.Connection, series: int, points: int, first: int, last: int) -> Curve:
    enough = _MERGED * points
    level = 0
    while level < LEVELS and _rows(db, series, level, first, last, enough) > enough:
        level += 1
    selects: list[str] = []
    bound: list[int] = []
    for finer, low, high in _cover(first, last, level):
        if finer == 0:
            selects.append(
                "SELECT step AS at, value AS low, value AS high, value AS total,"
                f" value IS NOT NULL AS n {_RAW_ROWS}"
            )
            bound += [series, low, high]
        else:
            selects.append(
                f"SELECT bucket << {4 * finer} AS at, min AS low, max AS high, sum AS total,"
                f" count AS n {_BUCKET_ROWS}"
            )
            bound += [series, finer, low, high]
    width = -(-(last - first + 1) // points)
    rows = db.execute(
        "SELECT min(at), min(low), max(high), sum(total), sum(n)"
        f" FROM ({' UNION ALL '.join(selects)}) GROUP BY (at - ?) / ? ORDER BY 1",
        (*bound, first, width),
    ).fetchall()
    return Curve(
        step=[row[0] for row in rows],
        value=[_mean(*row[1:]) for row in rows],
        min=[row[1] for row in rows],
        max=[row[2] for row in rows],
    )


def _cover(first: int, last: int, level: int) -> list[tuple[int, int, int]]:
    """(level, first bucket, last bucket) that hold exactly the steps from `first` to `last`.

    As much as possible at `level`; the ends, which fill no bucket, at finer ones.
    """
    if first > last:
        return []
    if level == 0:
        return [(0, first, last)]
    shift = 4 * level
    low = -(-first >> shift)
    high = ((last + 1) >> shift) - 1
    if low > high:
        return _cover(first, last, level - 1)
    return [
        *_cover(first, (low << shift) - 1, level - 1),
        (level, low, high),
        *_cover((high + 1) << shift, last, level - 1),
    ]


def _mean(low: float | None, high: float | None, total: float | None, n: int) -> float | None:
    if low is None or high is None:
        return None
    mean = total / n if total is not None else math.nan
    if not math.isfinite(mean):  # the sum of very large values is not a number any more
        mean = low / 2 + high / 2
    return min(max(mean, low), high)  # rounding must not carry it out of its bounds
