"""Where ranks are and how they fare: what a driver puts down, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_runs import begin, worked_on
from tsuzuku.core import ranks
from tsuzuku.core.errors import NotFound
from tsuzuku.core.ranks import NOTICEABLE, SLOWER, placement, stragglers
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

PACES = st.dictionaries(
    st.integers(0, 2000), st.floats(0, 1e6, allow_nan=False), min_size=0, max_size=40
)
NOTE: dict[str, Any] = {
    "attempt": 2,
    "time": 1_700_000_000.0,
    "launcher": "torchrun",
    "alive": [0, 1, 2],
    "ranks": [
        {"rank": 2, "host": "b", "pid": 12, "device": "cpu", "memory": 7, "own_ms": 90.5},
        {"rank": 0, "host": "a", "pid": 10, "device": "cpu", "memory": 5, "own_ms": 10.0,
         "batches_per_second": 11.0},
        {"rank": 1, "host": "a", "pid": 11},
    ],
}  # fmt: skip


@pytest.fixture
def run(workspace: Workspace, store: Store) -> RunDir:
    made = begin(workspace, store)
    made.places.write_text(json.dumps(NOTE))
    return made


@given(PACES)
def test_who_is_slow_is_slower_than_most(own_ms: dict[int, float]) -> None:
    found = stragglers(own_ms)
    assert found <= own_ms.keys()
    assert 2 * len(found) <= len(own_ms)
    for rank in found:
        others = [own for other, own in own_ms.items() if other != rank]
        below = [own for own in others if own_ms[rank] > SLOWER * own]
        assert 2 * len(below) >= len(others)
        assert own_ms[rank] - min(others) >= NOTICEABLE


@given(PACES, st.randoms())
def test_neither_names_nor_their_order_matter(own_ms: dict[int, float], random: Any) -> None:
    names = list(own_ms)
    random.shuffle(names)
    renamed = {name + 5000: own_ms[name] for name in names}
    assert stragglers(renamed) == {rank + 5000 for rank in stragglers(own_ms)}


@given(PACES)
def test_who_gets_slower_stays_slow_and_makes_nobody_else_slow(own_ms: dict[int, float]) -> None:
    before = stragglers(own_ms)
    for rank in before:
        assert stragglers({**own_ms, rank: own_ms[rank] * 2}) == before


@pytest.mark.parametrize(
    ("own_ms", "slow"),
    [
        ([], []),
        ([1e9], []),
        ([10, 10], []),
        ([10, 30], [1]),
        ([1, 3], []),  # three times as slow, and nobody would notice
        ([100, 149], []),
        ([100, 151], [1]),
        ([10, 100, 100], []),  # that one is quick is no fault of the others
        ([10, 10, 100], [2]),
        ([30, 10, 10, 31, 10], [0, 3]),
    ],
)
def test_some_paces(own_ms: list[float], slow: list[int]) -> None:
    assert sorted(stragglers(dict(enumerate(own_ms)))) == slow


def test_the_newest_attempts_ranks_with_what_each_has_told(run: RunDir) -> None:
    with worked_on(run):
        found = placement(run, 2)
    assert (found.run_id, found.attempt, found.launcher) == (run.run_id, 2, "torchrun")
    assert found.time == NOTE["time"]
    assert [(r.rank, r.host, r.pid, r.alive) for r in found.ranks] == [
        (0, "a", 10, True), (1, "a", 11, True), (2, "b", 12, True),
    ]  # fmt: skip
    assert [r.straggler for r in found.ranks] == [False, False, True]
    assert (found.ranks[1].device, found.ranks[1].own_ms) == (None, None)


def test_without_a_driver_no_rank_is_alive(run: RunDir) -> None:
    assert not any(one.alive for one in placement(run, 2).ranks)


def test_an_earlier_attempts_ranks_are_gone(run: RunDir) -> None:
    found = placement(run, 3)
    assert (found.attempt, found.launcher, found.ranks) == (3, "local", [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        json.dumps(NOTE)[:200].encode(),
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"7",
        b'{"attempt": 2, "ranks": {"0": 1}}',
        b'{"attempt": 2, "ranks": [7]}',
        b'{"attempt": 2, "ranks": [{"rank": "first"}]}',
        b'{"attempt": 2, "ranks": [{"rank": 0, "own_ms": NaN}]}',
        b'{"attempt": 2, "ranks": [{"rank": -1}]}',
        b'{"attempt": 2, "time": "now", "ranks": [{"rank": 0}]}',
    ],
)
def test_a_note_that_cannot_be_read_says_nothing(run: RunDir, content: bytes) -> None:
    run.places.write_bytes(content)
    assert placement(run, 2).ranks == []


def test_a_run_without_a_note_has_no_ranks(run: RunDir) -> None:
    run.places.unlink()
    assert placement(run, 2).ranks == []
    run.places.mkdir()
    assert placement(run, 2).ranks == []


def printed(run: RunDir, content: bytes) -> Path:
    path = run.rank_log(1)
    path.write_bytes(content)
    return path


def test_the_last_lines_of_a_log(run: RunDir) -> None:
    printed(run, "one\ntwo\r\nthree \N{SNOWMAN}\nfour".encode())
    assert ranks.log(run, 1, 4).model_dump() == {
        "run_id": run.run_id, "rank": 1, "earlier": False,
        "text": "one\ntwo\r\nthree \N{SNOWMAN}\nfour",
    }  # fmt: skip
    found = ranks.log(run, 1, 2)
    assert (found.text, found.earlier) == ("three \N{SNOWMAN}\nfour", True)


def test_a_log_is_read_from_its_end_and_never_whole(run: RunDir) -> None:
    line = "0123456789" * 10 + "\n"
    printed(run, (line * (ranks.LONGEST // 50)).encode())
    found = ranks.log(run, 1, 1_000_000)
    assert found.earlier
    assert len(found.text) <= ranks.LONGEST
    assert set(found.text.splitlines(keepends=True)) == {line}


def test_one_endless_line_and_bytes_that_are_no_text(run: RunDir) -> None:
    printed(run, b"\xff" + b"x" * ranks.LONGEST)
    found = ranks.log(run, 1, 1)
    assert (len(found.text), found.earlier) == (ranks.LONGEST, True)
    printed(run, b"\xff\n")
    assert ranks.log(run, 1, 1).text == "\N{REPLACEMENT CHARACTER}\n"
    printed(run, b"")
    assert ranks.log(run, 1, 1).text == ""


def test_a_rank_that_never_was(run: RunDir) -> None:
    with pytest.raises(NotFound, match=f"Rank 7 of run {run.run_id} has no log"):
        ranks.log(run, 7, 1)
