"""Curves of branches, against what a plain walk up the family tree gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from histories import Trained, World
from tsuzuku.core import lineage
from tsuzuku.core.schemas import Attempt, Checkpoint, Curve, Run
from tsuzuku.core.store import Store

Plan = list[tuple[int, int, int]]
"""By run: whose branch it is, after how many of its own steps, and how many it trained itself."""


def name(number: int) -> str:
    return f"2026-11-21_19-20-{number:02}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("lineage") / "tsuzuku.db") as opened:
        yield opened


def put_run(store: Store, run_id: str, parent: str | None = None) -> None:
    store.put_run(
        Run(run_id=run_id, model_name="m", dataset_name="d", status="stopped", created_at=1.0,
            updated_at=1.0, parent=parent)
    )  # fmt: skip


def put_attempt(store: Store, run_id: str, number: int, start: int, origin: str | None) -> None:
    store.put_attempt(
        Attempt(run_id=run_id, attempt=number, pid=1, hostname="h", started_at=float(number),
                status="stopped", resumed_from=origin, start_step=start)
    )  # fmt: skip


def put_checkpoint(store: Store, run_id: str, step: int) -> str:
    store.put_checkpoint(
        Checkpoint(name=f"{step}.pt", run_id=run_id, model_name="m", dataset_name="d", epoch=1,
                   global_step=step, path="p", size=1, sha256="x", created_at=1.0, metrics={})
    )  # fmt: skip
    return f"{run_id}/{step}.pt"


FAMILY = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 30), st.integers(0, 40)), min_size=1, max_size=6
)
_COUNT = iter(range(10**9))
EVERYTHING = 10**6
"""More points than there are."""


def grown(store: Store, family: Plan) -> tuple[list[str], list[dict[int, float]]]:
    """The runs, and of each all points of its curve from the very beginning."""
    first = next(_COUNT)
    names: list[str] = []
    wholes: list[dict[int, float]] = []
    for number, (parent, after, trained) in enumerate(family):
        run_id = f"2026-11-21_19-20-{first:06}-{number}"
        inherited: dict[int, float] = {}
        origin = None
        at = 0
        if number:
            parent %= number
            began = min(wholes[parent], default=1) if family[parent][2] else None
            own = len(wholes[parent])
            at = min(own, max(after, own - family[parent][2] + 1)) if began else own
            origin = put_checkpoint(store, names[parent], at) if at else None
            inherited = {s: v for s, v in wholes[parent].items() if s <= at} if at else {}
            at = at if origin else 0
        put_run(store, run_id, origin)
        put_attempt(store, run_id, 1, at, origin)
        mine = {at + n: number + (at + n) / 1000 for n in range(1, trained + 1)}
        store.add_points(run_id, "loss", list(mine), list(mine.values()))
        # what the run would have trained past a later branch's point stays its own
        names.append(run_id)
        wholes.append(inherited | mine)
    return names, wholes


@given(FAMILY, st.none() | st.integers(0, 60), st.none() | st.integers(0, 60), st.integers(6, 50))
@settings(max_examples=40)
def test_a_branch_shows_its_ancestors_up_to_where_it_began(
    store: Store, family: Plan, first: int | None, last: int | None, points: int
) -> None:
    names, wholes = grown(store, family)
    for run_id, whole in zip(names, wholes, strict=True):
        parts = lineage.segments(store, run_id)
        assert parts[-1].run_id == run_id
        low, high = first or 0, 10**9 if last is None else last
        expected = {s: v for s, v in whole.items() if low <= s <= high}
        found = lineage.curve(store, parts, "loss", 2000, first, last)
        assert dict(zip(found.step, found.value, strict=True)) == pytest.approx(expected)
        assert found.step == sorted(expected)
        few = lineage.curve(store, parts, "loss", points, first, last)
        assert len(few.step) <= points
        assert few.step == sorted(set(few.step))


def test_an_ancestor_whose_checkpoint_is_gone(store: Store) -> None:
    """Then it is where the first attempt that had loaded it began."""
    old, new = name(1), name(2)
    put_run(store, old)
    put_run(store, new, f"{old}/gone.pt")
    put_attempt(store, new, 1, 0, f"{old}/gone.pt")  # it died before it had loaded it
    put_attempt(store, new, 2, 5, f"{old}/gone.pt")
    put_attempt(store, new, 3, 7, f"{new}/7.pt")
    store.add_points(old, "loss", range(1, 11), [1.0] * 10)
    store.add_points(new, "loss", range(6, 9), [2.0] * 3)
    parts = lineage.segments(store, new)
    found = lineage.curve(store, parts, "loss", 100, None, 7)
    assert found.value == [1.0] * 5 + [2.0] * 2
    marks = lineage.resumes(store, parts)
    assert [(m.run_id, m.step) for m in marks] == [(new, 5), (new, 7)]


def test_an_ancestor_that_was_deleted_is_left_out(store: Store) -> None:
    run_id = name(7)
    put_run(store, run_id, "2020-01-01_00-00-00/5.pt")
    put_attempt(store, run_id, 1, 5, "2020-01-01_00-00-00/5.pt")
    assert [s.run_id for s in lineage.segments(store, run_id)] == [run_id]


def test_an_ancestor_counts_up_to_the_earliest_branch_below_it(store: Store) -> None:
    """A branch of a step before its own beginning is only in edited data."""
    old, new, last = name(8), name(9), name(10)
    put_run(store, old)
    put_run(store, new, put_checkpoint(store, old, 10))
    put_run(store, last, put_checkpoint(store, new, 5))
    store.add_points(old, "loss", range(1, 21), [1.0] * 20)
    store.add_points(new, "loss", range(11, 21), [2.0] * 10)
    store.add_points(last, "loss", range(6, 9), [3.0] * 3)
    parts = lineage.segments(store, last)
    assert lineage.curve(store, parts, "loss", 100).step == list(range(1, 9))
    assert [(t.run_id, t.step[0]) for t in lineage.tails(store, parts, "loss", 100)] == [
        (old, 6), (new, 11)
    ]  # fmt: skip


def test_what_an_ancestor_did_after_the_branch_is_not_marked(store: Store) -> None:
    old, new = name(3), name(4)
    put_run(store, old)
    put_run(store, new, put_checkpoint(store, old, 10))
    put_attempt(store, old, 1, 0, None)
    put_attempt(store, old, 2, 4, f"{old}/4.pt")
    put_attempt(store, old, 3, 30, f"{old}/30.pt")
    put_attempt(store, new, 1, 10, f"{old}/10.pt")
    marks = lineage.resumes(store, lineage.segments(store, new))
    assert [(m.run_id, m.step) for m in marks] == [(old, 4), (new, 10)]
    assert [m.step for m in lineage.resumes(store, lineage.alone(old))] == [4, 30]


def test_a_circle_of_parents_ends(store: Store) -> None:
    """Only a damaged database has one."""
    one, other = name(5), name(6)
    put_run(store, one, f"{other}/1.pt")
    put_run(store, other, f"{one}/1.pt")
    assert [s.run_id for s in lineage.segments(store, one)] == [other, one]
    assert [s.run_id for s in lineage.segments(store, "nobody")] == ["nobody"]


ACT = st.tuples(
    st.sampled_from(["train", "train", "kill", "branch", "branch", "delete"]),
    st.integers(0, 9),
    st.integers(1, 60),
    st.sampled_from([1, 7, 20, 33]),
    st.integers(1, 12),
    st.sampled_from([1, 1, 1, 10]),
)


@given(st.lists(ACT, min_size=2, max_size=9), st.integers(8, 40))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_joined_curve_is_what_was_trained(
    store: Store, acts: list[tuple[str, int, int, int, int, int]], points: int
) -> None:
    world = World(store)
    world.attempt(world.runs[0], 45, 10, 0, 1)
    for kind, which, steps, every, lost, interval in acts:
        run: Trained | None = world.runs[which % len(world.runs)]
        assert run is not None
        if kind == "delete":
            world.delete(run, steps)
            continue
        if kind == "branch":
            run = world.branch(run, steps)
        if run is not None:
            world.attempt(run, steps, every, lost if kind == "kill" else 0, interval)
    for run in world.runs:
        parts = lineage.segments(store, run.run_id)
        assert [p.run_id for p in parts] == [*(a.run_id for a, _ in run.ancestors), run.run_id]
        for key in run.own:
            whole = run.whole(key)
            check(lineage.curve(store, parts, key, EVERYTHING), whole, EVERYTHING)
            check(lineage.curve(store, parts, key, points), whole, points)
            abandoned = {
                ancestor.run_id: {s: v for s, v in ancestor.own[key].items() if s > at}
                for ancestor, at in run.ancestors
            }
            abandoned = {name: tail for name, tail in abandoned.items() if tail}
            for most in (EVERYTHING, points):
                tails = lineage.tails(store, parts, key, most)
                assert [tail.run_id for tail in tails] == list(abandoned)
                for tail in tails:
                    check(tail, abandoned[tail.run_id], most)
        marks = [(run.run_id, step) for run, step in marked(run)]
        assert [(m.run_id, m.step) for m in lineage.resumes(store, parts)] == marks


def marked(run: Trained) -> Iterator[tuple[Trained, int]]:
    for ancestor, at in run.ancestors:
        yield from ((ancestor, step) for step in ancestor.starts if step < at)
    yield from ((run, step) for step in run.starts)


def check(found: Curve, expected: Mapping[int, float], most: int) -> None:
    """Every point is in one bucket, which knows its minimum, maximum and mean."""
    assert len(found.step) <= most
    assert found.step == sorted(set(found.step))
    if most == EVERYTHING:
        assert dict(zip(found.step, found.value, strict=True)) == expected
        return
    left = sorted(expected)
    bounds = [*found.step, math.inf][1:]
    buckets = zip(bounds, found.value, found.min, found.max, strict=True)
    for first, (end, value, low, high) in zip(found.step, buckets, strict=True):
        inside = [expected[step] for step in left if first <= step < end]
        assert inside, f"nothing was trained in the bucket of step {first}"
        assert (low, high) == (min(inside), max(inside))
        assert value == pytest.approx(sum(inside) / len(inside))
    assert not left or (found.step and found.step[0] <= left[0])
