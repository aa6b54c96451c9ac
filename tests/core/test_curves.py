"""The metric pyramid against a plain dictionary of points."""

from __future__ import annotations

import math
import random
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsuzuku.core import curves
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.schemas import Curve

SERIES = 7
Point = tuple[int, float]


def database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(curves.TABLES)
    # A neighbour on either side, whose points must never be seen.
    for other in (SERIES - 1, SERIES + 1):
        curves.write(db, range(-40, 400), {other: [1e9] * 440})
    return db


def write(db: sqlite3.Connection, points: list[Point]) -> None:
    curves.write(db, [step for step, _ in points], {SERIES: [value for _, value in points]})


def tables(db: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [db.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall() for name in NAMES]


NAMES = ("points", "rollups")


@st.composite
def histories(draw: st.DrawFn) -> list[Point]:
    """Points as runs write them: stretches of steps, some of them repeated, some far away."""
    points: list[Point] = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(-300, 500) | st.integers(-(10**7), 10**7))
        length = draw(st.integers(1, 12) | st.integers(200, 600))
        stride = draw(st.sampled_from([1, 1, 1, 2, 7, 100, 5000]))
        generator = random.Random(draw(st.integers(0, 99)))
        values = [generator.choice([generator.gauss(0, 1), 3.0]) for _ in range(length)]
        for _ in range(draw(st.integers(0, 3))):
            values[draw(st.integers(0, length - 1))] = draw(
                st.sampled_from([math.nan, math.inf, -math.inf, 1e6, -1e6])
            )
        if draw(st.booleans()) and length < 20:
            values = [math.nan] * length
        points += [(start + i * stride, value) for i, value in enumerate(values)]
    return points


def expected_buckets(kept: dict[int, float], curve: Curve, last: int) -> list[Point]:
    """Check every bucket against the points that lie in it; returns those points."""
    seen: list[Point] = []
    for i, step in enumerate(curve.step):
        end = curve.step[i + 1] if i + 1 < len(curve.step) else last + 1
        inside = [(at, value) for at, value in kept.items() if step <= at < end]
        assert inside, f"bucket {i} at step {step} holds nothing"
        finite = [value for _, value in inside if math.isfinite(value)]
        assert curve.min[i] == min(finite, default=None)
        assert curve.max[i] == max(finite, default=None)
        if not finite:
            assert curve.value[i] is None
        else:
            mean = math.fsum(finite) / len(finite)
            assert curve.value[i] == pytest.approx(mean, rel=1e-9, abs=1e-8)
            assert min(finite) <= curve.value[i] <= max(finite)
        seen += inside
    return seen


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(1, 40), st.data())
def test_every_bucket_of_every_zoom_is_what_the_points_in_it_say(
    history: list[Point], points: int, data: st.DataObject
) -> None:
    db = database()
    write(db, history)
    kept = dict(sorted(dict(history).items()))
    steps = list(kept)
    bound = st.none() | st.sampled_from(steps) | st.integers(steps[0] - 20, steps[-1] + 20)
    first, last = data.draw(bound), data.draw(bound)

    curve = curves.read(db, SERIES, points, first, last)

    low = steps[0] if first is None else first
    high = steps[-1] if last is None else last
    wanted = {step: value for step, value in kept.items() if low <= step <= high}
    assert len(curve.step) == len(curve.value) == len(curve.min) == len(curve.max) <= points
    assert all(a < b for a, b in zip(curve.step, curve.step[1:], strict=False))
    assert expected_buckets(wanted, curve, high) == list(wanted.items())
    if len(wanted) <= points:
        assert curve.step == list(wanted)


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_any_split_into_batches_gives_the_same_tables(
    history: list[Point], data: st.DataObject
) -> None:
    whole, split = database(), database()
    write(whole, history)
    rest = history
    while rest:
        size = data.draw(st.integers(1, 9) | st.integers(100, 700))
        write(split, rest[:size])
        rest = rest[size:]
    assert tables(split) == tables(whole)


@settings(max_examples=60, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_overwriting_points_is_like_having_written_them_once(
    history: list[Point], generator: random.Random
) -> None:
    once, twice = database(), database()
    final = dict(history)
    write(once, list(final.items()))
    write(twice, [(step, 5e6) for step in final])
    again = list(final.items())
    generator.shuffle(again)
    for start in range(0, len(again), 97):
        write(twice, again[start : start + 97])
    assert tables(twice) == tables(once)


def test_roll_ups_have_the_documented_levels() -> None:
    db = database()
    write(db, [(step, float(step)) for step in range(5000)])
    query = "SELECT min, max, sum, count FROM rollups WHERE series=? AND level=? AND bucket=?"
    for level, bucket in [(1, 3), (2, 3), (3, 0), (3, 1), (4, 0), (5, 0)]:
        inside = range(bucket * 16**level, min((bucket + 1) * 16**level, 5000))
        row = db.execute(query, (SERIES, level, bucket)).fetchone()
        assert row == (inside[0], inside[-1], sum(inside), len(inside))
    rows = "SELECT level, count(*) FROM rollups WHERE series=? GROUP BY level"
    counts = dict(db.execute(rows, (SERIES,)).fetchall())
    assert counts == {1: 313, 2: 20, 3: 2, 4: 1, 5: 1}


def test_far_scattered_steps_leave_what_lies_between_alone() -> None:
    db = database()
    write(db, [(step, 1.0) for step in range(20_000)])
    marks = "UPDATE rollups SET sum = -1 WHERE series = ? AND level = 1 AND bucket = 600"
    db.execute(marks, (SERIES,))
    write(db, [(0, 2.0), (19_999, 2.0)])
    touched = "SELECT sum FROM rollups WHERE series = ? AND level = 1 AND bucket = 600"
    assert db.execute(touched, (SERIES,)).fetchone() == (-1,)
    first = "SELECT sum FROM rollups WHERE series = ? AND level = 1 AND bucket IN (0, 1249)"
    assert db.execute(first, (SERIES,)).fetchall() == [(17,), (17,)]


def test_a_long_curve_is_read_from_few_rows() -> None:
    db = database()
    write(db, [(step, math.sin(step)) for step in range(300_000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 100)
    curve = curves.read(db, SERIES, 100, None, None)
    assert 50 <= len(curve.step) <= 100
    assert steps * 100 < 100_000  # instructions of SQLite's machine; 300,000 rows need millions


def test_what_is_not_finite_is_a_step_without_a_value() -> None:
    db = database()
    write(db, [(1, math.nan), (2, math.inf), (3, -math.inf)])
    assert curves.raw(db, SERIES) == [(1, None), (2, None), (3, None)]
    merged = curves.read(db, SERIES, 1, None, None)
    assert merged == Curve(step=[1], value=[None], min=[None], max=[None])
    rows = "SELECT DISTINCT min, max, sum, count FROM rollups WHERE series = ?"
    assert db.execute(rows, (SERIES,)).fetchall() == [(None, None, None, 0)]


def test_a_sum_that_overflows_still_gives_a_finite_mean_within_its_bounds() -> None:
    db = database()
    write(db, [(step, 1.5e308 if step % 2 else 1.2e308) for step in range(64)])
    curve = curves.read(db, SERIES, 4, None, None)
    assert len(curve.step) == 4
    assert all(value is not None and 1.2e308 <= value <= 1.5e308 for value in curve.value)


def test_rounding_does_not_carry_a_mean_out_of_its_bounds() -> None:
    db = database()
    write(db, [(step, 0.1) for step in range(3)])
    assert sum([0.1] * 3) / 3 != 0.1
    assert curves.read(db, SERIES, 1, None, None).value == [0.1]


@pytest.mark.parametrize("bounds", [(500, None), (None, -1), (9, 3)])
def test_a_range_without_points_gives_an_empty_curve(bounds: tuple[int, int]) -> None:
    db = database()
    write(db, [(step, 1.0) for step in range(100)])
    assert curves.read(db, SERIES, 10, *bounds).step == []


def test_an_unwritten_series_gives_an_empty_curve() -> None:
    assert curves.read(database(), SERIES, 10, None, None).step == []


def test_less_than_one_point_is_refused() -> None:
    with pytest.raises(WrongInput, match="points: 0 is less than 1"):
        curves.read(database(), SERIES, 0, None, None)


def test_steps_and_values_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        curves.write(database(), [1, 2], {SERIES: [0.5]})


def test_series_written_together_are_as_if_each_were_written_alone() -> None:
    steps = [1, 2, 17, 300, 5000, 70_000]
    many = {100 + n: [float(n + i) if i % 4 else math.nan for i in range(6)] for n in range(1100)}
    together, alone = database(), database()
    curves.write(together, steps, many)
    for series, values in many.items():
        curves.write(alone, steps, {series: values})
    assert tables(together) == tables(alone)
