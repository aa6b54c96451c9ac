"""Retention against a model that is as dumb as possible."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tsuzuku.core.retention import Candidate, decide, is_better, reasons_to_save
from tsuzuku.core.settings import CheckpointSettings

values = st.none() | st.sampled_from([0.1, 0.2, 0.3, math.nan, math.inf, -math.inf]) | st.floats()


@st.composite
def checkpoints(draw: st.DrawFn) -> list[Candidate]:
    """A run's checkpoints in any order: ends of epochs with a value, stops and timers without."""
    steps = draw(st.lists(st.integers(1, 60), unique=True, max_size=14))
    found = [
        Candidate(
            name=f"c{step}.pt",
            epoch=step // 2,
            global_step=step,
            value=draw(values) if step % 2 == 0 else None,
            end_of_epoch=step % 2 == 0,
            pinned=draw(st.booleans()) and draw(st.booleans()),
        )
        for step in steps
    ]
    return draw(st.permutations(found))


@st.composite
def policies(draw: st.DrawFn) -> CheckpointSettings:
    return CheckpointSettings(
        keep_last_n=draw(st.none() | st.integers(1, 5)),
        keep_best_n=draw(st.integers(0, 4)),
        milestones=draw(st.lists(st.integers(1, 30), max_size=3)),
        mode=draw(st.sampled_from(["min", "max"])),
    )


def kept(found: list[Candidate], policy: CheckpointSettings, used: set[str]) -> set[str]:
    return {name for name, reasons in decide(found, policy, used).items() if reasons}


def dumb(found: list[Candidate], policy: CheckpointSettings, used: set[str]) -> set[str]:
    """The same by counting, for each checkpoint, how many others come before it."""
    keep: set[str] = set()
    for c in found:
        newer = sum(o.global_step > c.global_step for o in found)
        if newer == 0 or policy.keep_last_n is None or newer < policy.keep_last_n:
            keep.add(c.name)
        if c.pinned or c.name in used or (c.end_of_epoch and c.epoch in policy.milestones):
            keep.add(c.name)
        if c.value is None or not math.isfinite(c.value):
            continue
        better = 0
        for o in found:
            if o.value is None or not math.isfinite(o.value):
                continue
            wins = o.value < c.value if policy.mode == "min" else o.value > c.value
            better += wins or (o.value == c.value and o.global_step < c.global_step)
        if better < policy.keep_best_n:
            keep.add(c.name)
    return keep


@hypothesis_settings(max_examples=200)
@given(checkpoints(), policies(), st.sets(st.integers(1, 60).map("c{}.pt".format), max_size=3))
def test_what_is_kept_is_what_counting_says(
    found: list[Candidate], policy: CheckpointSettings, used: set[str]
) -> None:
    assert kept(found, policy, used) == dumb(found, policy, used)
    assert decide(found, policy, used).keys() == {c.name for c in found}


@given(checkpoints(), policies())
def test_the_newest_is_always_kept_whatever_the_policy(
    found: list[Candidate], policy: CheckpointSettings
) -> None:
    if found:
        newest = max(found, key=lambda c: c.global_step)
        assert "latest" in decide(found, policy)[newest.name]
        assert sum("latest" in r for r in decide(found, policy).values()) == 1


@given(checkpoints(), policies(), st.sets(st.integers(1, 60).map("c{}.pt".format), max_size=3))
def test_applying_it_twice_is_applying_it_once(
    found: list[Candidate], policy: CheckpointSettings, used: set[str]
) -> None:
    once = kept(found, policy, used)
    left = [c for c in found if c.name in once]
    assert kept(left, policy, used) == once


@given(checkpoints(), policies())
def test_the_order_of_the_list_does_not_matter(
    found: list[Candidate], policy: CheckpointSettings
) -> None:
    ordered = sorted(found, key=lambda c: c.name)
    assert decide(found, policy) == decide(ordered, policy)


@given(checkpoints(), policies(), st.integers(0, 13))
def test_a_pin_only_ever_adds(
    found: list[Candidate], policy: CheckpointSettings, which: int
) -> None:
    before = kept(found, policy, set())
    if which < len(found):
        pinned = [replace(c, pinned=c.pinned or i == which) for i, c in enumerate(found)]
        assert kept(pinned, policy, set()) == before | {found[which].name}
        assert kept(found, policy, {found[which].name}) == before | {found[which].name}


@given(checkpoints(), policies(), st.integers(0, 5), st.integers(0, 4))
def test_a_more_generous_policy_keeps_no_less(
    found: list[Candidate], policy: CheckpointSettings, last: int, best: int
) -> None:
    more = policy.model_copy(
        update={
            "keep_last_n": None if policy.keep_last_n is None else policy.keep_last_n + last,
            "keep_best_n": policy.keep_best_n + best,
        }
    )
    assert kept(found, policy, set()) <= kept(found, more, set())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), policies())
def test_pruning_as_a_run_goes_never_loses_the_newest_the_best_or_a_milestone(
    losses: list[float], policy: CheckpointSettings
) -> None:
    policy = policy.model_copy(update={"keep_best_n": max(policy.keep_best_n, 1)})
    left: list[Candidate] = []
    for epoch, loss in enumerate(losses, 1):
        left.append(Candidate(f"e{epoch}", epoch, epoch * 10, loss, end_of_epoch=True))
        names = kept(left, policy, set())
        left = [c for c in left if c.name in names]
    sign = 1 if policy.mode == "min" else -1
    best = min(range(len(losses)), key=lambda i: (sign * losses[i], i)) + 1
    names = {c.name for c in left}
    assert f"e{len(losses)}" in names
    assert f"e{best}" in names
    assert {f"e{m}" for m in policy.milestones if m <= len(losses)} <= names


def test_reasons_say_why_in_words() -> None:
    found = [
        Candidate("a", 10, 100, 0.5, end_of_epoch=True),
        Candidate("b", 11, 110, 0.4, end_of_epoch=True),
        Candidate("c", 11, 115, None, end_of_epoch=False, pinned=True),
        Candidate("d", 12, 120, 0.6, end_of_epoch=True),
        Candidate("x", 1, 10, 0.9, end_of_epoch=True),
    ]
    policy = CheckpointSettings(keep_last_n=1, keep_best_n=1)
    assert decide(found, policy, {"x"}) == {
        "a": ["milestone 10"],
        "b": ["best"],
        "c": ["pinned"],
        "d": ["latest", "last 1"],
        "x": ["in use"],
    }


def test_a_stop_within_a_milestone_epoch_is_no_milestone() -> None:
    """At a stop in epoch 11, 10 epochs are completed: that is not the checkpoint of epoch 10."""
    policy = CheckpointSettings(keep_last_n=1, keep_best_n=0)
    stopped = Candidate("s", 10, 105, None, end_of_epoch=False)
    newest = Candidate("n", 11, 110, None, end_of_epoch=True)
    assert kept([stopped, newest], policy, set()) == {"n"}


def test_there_is_nothing_to_decide_about_nothing() -> None:
    assert decide([], CheckpointSettings()) == {}


@pytest.mark.parametrize(
    ("value", "best", "mode", "delta", "better"),
    [
        (0.4, 0.5, "min", 0, True),
        (0.5, 0.5, "min", 0, False),
        (0.5, 0.5, "max", 0, False),
        (0.6, 0.5, "max", 0, True),
        (0.6, 0.5, "min", 0, False),
        (0.45, 0.5, "min", 0.1, False),
        (0.55, 0.5, "max", 0.1, False),
        (9.0, None, "min", 0, True),
        (math.nan, None, "min", 0, False),
        (math.nan, 0.5, "max", 0, False),
        (-math.inf, 0.5, "min", 0, False),
        (math.inf, 0.5, "max", 0, False),
    ],
)
def test_better_means_strictly_better_and_finite(
    value: float, best: float | None, mode: str, delta: float, better: bool
) -> None:
    assert is_better(value, best, mode, delta) is better


# The seeds: every `save_freq` epochs, on improvement, at the milestones 10, 25, 50, 100, 200


def test_checkpoints_are_due_when_the_seeds_say() -> None:
    policy = CheckpointSettings(save_freq=5)
    for epoch in range(1, 300):
        for improved in (False, True):
            due = epoch % 5 == 0 or improved or epoch in [10, 25, 50, 100, 200]
            assert bool(reasons_to_save(epoch, 300, improved, policy)) is due


def test_the_last_epoch_is_always_saved() -> None:
    for best_only in (False, True):
        policy = CheckpointSettings(save_freq=100, save_best_only=best_only, milestones=[])
        assert reasons_to_save(7, 7, False, policy) == ["last"]
        assert reasons_to_save(6, 7, False, policy) == []


def test_save_best_only_leaves_out_intervals_and_milestones() -> None:
    policy = CheckpointSettings(save_best_only=True)
    assert reasons_to_save(10, 99, False, policy) == []
    assert reasons_to_save(10, 99, True, policy) == ["best"]
    every = CheckpointSettings(save_freq=10)
    assert reasons_to_save(10, 10, True, every) == ["last", "best", "interval", "milestone"]
