"""The events table read by those who only look on, beside a store that writes it."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import everything, logs
from tsuzuku.core.errors import NotFound, TsuzukuError
from tsuzuku.core.event_reader import EventReader
from tsuzuku.core.rebuild import rebuild
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store

KILLED = """
import os, signal, sys
from pathlib import Path
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
store = Store(Path(sys.argv[1]))
store.append([Event(type="log", payload={}, time=1.0)] * 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tsuzuku.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


@pytest.fixture
def reader(path: Path) -> Iterator[EventReader]:
    with closing(EventReader(path)) as opened:
        yield opened


def test_messages_are_the_events(store: Store, reader: EventReader) -> None:
    texts = st.text(max_size=20)
    values = st.one_of(texts, st.floats(), st.none(), st.lists(texts, max_size=2))

    @given(
        payload=st.dictionaries(texts, values, max_size=3),
        run_id=st.one_of(st.none(), st.sampled_from(['say "hi"\n', "2026-11-21_19-20-14", "続"])),
        time=st.floats(0, 1e11),
    )
    def check(payload: dict[str, object], run_id: str | None, time: float) -> None:
        seq = store.append([Event(type="log", payload=payload, run_id=run_id, time=time)])[0].seq
        [message], last = reader.messages(seq - 1, seq)
        assert json.loads(message.text) == store.events(after=seq - 1)[0].model_dump()
        assert message[:2] == (seq, run_id)
        assert last == seq
        assert message.text.isascii()

    check()


def test_a_time_that_json_cannot_say_is_null(store: Store, reader: EventReader) -> None:
    """A damaged journal can bring one into a table that is made anew."""
    store.append([Event(type="log", payload={}, time=float("inf"))])
    [message], _ = reader.messages(0, 1)
    assert json.loads(message.text)["time"] is None


def test_from_one_number_to_another_and_of_one_run(store: Store, reader: EventReader) -> None:
    for run_id in ("a", "b", None, "a", "b"):
        store.append(logs(1, 2, run_id=run_id))

    def seqs(after: int, until: int, run_id: str | None = None, **bounds: int) -> object:
        messages, last = reader.messages(after, until, run_id, **bounds)
        return [message.seq for message in messages], last

    assert seqs(0, 10) == (list(range(1, 11)), 10)
    assert seqs(3, 5) == ([4, 5], 5)
    assert seqs(0, 10, "a") == ([1, 2, 7, 8], 10)
    assert seqs(8, 10, "a") == ([], 10)
    assert seqs(0, 10, "unknown") == ([], 10)
    assert seqs(0, 10, limit=3) == ([1, 2, 3], 3)
    assert seqs(0, 3, limit=3) == ([1, 2, 3], 3)
    assert seqs(0, 10, "a", limit=3) == ([1, 2, 7], 7)
    assert seqs(10, 10) == ([], 10)
    assert seqs(12, 10) == ([], 12)
    size = len(reader.messages(0, 1)[0][0].text)
    assert seqs(0, 10, size=3 * size) == ([1, 2, 3], 3)
    assert seqs(0, 10, size=3 * size - 1) == ([1, 2], 2)
    assert seqs(0, 10, size=1) == ([1], 1)  # otherwise nobody would ever get past it


def test_changed_is_said_once_for_each_commit(store: Store, reader: EventReader) -> None:
    assert reader.changed()
    assert not reader.changed()
    store.append(logs(1))
    assert reader.changed()
    assert not reader.changed()
    assert reader.last_seq() == 1


def test_it_makes_no_database(path: Path, reader: EventReader) -> None:
    with pytest.raises(NotFound, match="There is no"):
        reader.changed()
    assert not list(path.parent.iterdir())
    with Store(path) as store:
        store.append(logs(1, 2))
    assert reader.changed()
    assert reader.last_seq() == 2


def test_what_is_no_database_is_said(path: Path, reader: EventReader) -> None:
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(TsuzukuError, match="damaged or no database"):
        reader.last_seq()
    path.unlink()
    with Store(path):
        assert reader.last_seq() == 0


def test_it_reads_what_a_killed_process_has_left(path: Path, reader: EventReader) -> None:
    """The newest is then in a WAL that nobody has open."""
    died = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert died.returncode == -signal.SIGKILL
    assert path.with_name("tsuzuku.db-wal").exists()
    assert reader.last_seq() == 7
    assert len(reader.messages(0, 7)[0]) == 7


def test_it_follows_a_database_that_is_made_anew(path: Path) -> None:
    with closing(EventReader(path)) as reader:
        with Store(path) as store:
            store.append(logs(*range(100)))
            assert reader.last_seq() == 100
        opened = reader.opened
        rebuild(path, [])
        assert reader.last_seq() == 0
        assert reader.opened > opened
        with Store(path) as store:
            store.append(logs(1, 2))
            assert reader.changed()
            assert [m.seq for m in reader.messages(0, 9)[0]] == [1, 2]
    # it has neither mixed the two up nor taken the files of one for those of the other
    with Store(path) as store:
        assert len(everything(store)) == 2
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with closing(sqlite3.connect(path.with_name("tsuzuku.db.damaged"))) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (100,)


def test_it_does_not_keep_the_wal_from_being_reset(store: Store, reader: EventReader) -> None:
    """A statement that is left open would: the WAL would grow for as long as the server runs."""
    store.append(logs(*range(100)))
    reader.changed()
    reader.messages(0, 100, size=1)
    with closing(sqlite3.connect(store.path)) as db:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy
    assert store.path.with_name("tsuzuku.db-wal").stat().st_size == 0
