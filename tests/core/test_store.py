"""The database of a workspace, on real files and with real processes."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tsuzuku.core import database, listing
from tsuzuku.core.database import SCHEMA_VERSION
from tsuzuku.core.errors import Busy, DiskFull, NotFound, TsuzukuError
from tsuzuku.core.rebuild import rebuild
from tsuzuku.core.schemas import Attempt, Checkpoint, Event, Run
from tsuzuku.core.store import Store

RUN = "2026-11-21_19-20-14"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "tsuzuku.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def a_run(run_id: str = RUN, **fields: Any) -> Run:
    given = {"model_name": "vae", "dataset_name": "mnist", "status": "running"}
    given |= {"created_at": 100.0, "updated_at": 100.0, "total_epochs": 3}
    return Run.model_validate({"run_id": run_id, **given, **fields})


def a_checkpoint(name: str, **fields: Any) -> Checkpoint:
    given = {"run_id": RUN, "model_name": "vae", "dataset_name": "mnist", "epoch": 1}
    given |= {"global_step": 10, "path": f"/w/{name}", "size": 5, "sha256": "ab"}
    given |= {"created_at": 1.0, "metrics": {"val_loss": 0.5}}
    return Checkpoint.model_validate({"name": name, **given, **fields})


def an_attempt(number: int, **fields: Any) -> Attempt:
    given = {"run_id": RUN, "pid": 1, "hostname": "h", "started_at": 1.0, "status": "running"}
    return Attempt.model_validate({"attempt": number, **given, **fields})


def log(message: str, run_id: str | None = RUN, time: float = 1.0) -> Event:
    return Event(
        type="log", payload={"level": "info", "message": message}, run_id=run_id, time=time
    )


def progress(step: int, loss: float = 1.0, run_id: str | None = RUN, time: float = 1.0) -> Event:
    payload = {"epoch": 1, "step": step, "global_step": step, "loss": loss}
    return Event(type="progress", payload=payload, run_id=run_id, time=time)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_together(processes: list[subprocess.Popen[str]]) -> None:
    """Let processes go on when the last of them has said that it is ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def assert_sound(path: Path) -> None:
    """SQLite finds nothing wrong, and the events are numbered without a gap."""
    with Store(path) as store:
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        seqs = [seq for (seq,) in store._db.execute("SELECT seq FROM events ORDER BY seq")]
        assert seqs == list(range(1, len(seqs) + 1))
        assert store.last_seq() == len(seqs)


# Runs and attempts


def test_a_run_comes_back_as_it_was_put(store: Store) -> None:
    run = a_run(
        parent="x/y.pt", best_metric=0.25, message="損失", epoch=2, global_step=9, attempt=3
    )
    store.put_run(run)
    assert store.run(RUN) == run
    replaced = run.model_copy(update={"message": "", "best_metric": None})
    store.put_run(replaced)
    assert store.runs() == [replaced]
    assert store.run("another") is None


def test_updating_a_run_changes_the_named_fields_and_its_time(store: Store) -> None:
    store.put_run(a_run(message="old"))
    store.update_run(RUN, best_metric=0.5, epoch=2)
    run = store.run(RUN)
    assert run is not None
    assert (run.best_metric, run.epoch, run.message) == (0.5, 2, "old")
    assert run.updated_at > 100.0
    store.update_run(RUN, updated_at=7.0)
    assert store.run(RUN) == run.model_copy(update={"updated_at": 7.0})


def test_updating_refuses_wrong_names_values_and_runs(store: Store) -> None:
    store.put_run(a_run())
    with pytest.raises(TypeError, match="no field colour"):
        store.update_run(RUN, colour="red", epoch=5)
    with pytest.raises(ValueError, match="status"):
        store.update_run(RUN, status="dancing", epoch=5)
    with pytest.raises(NotFound, match="no run nobody"):
        store.update_run("nobody", epoch=5)
    assert store.run(RUN) == a_run()


def test_runs_are_listed_newest_first_and_filtered(store: Store) -> None:
    store.put_run(a_run("a", created_at=5.0))
    store.put_run(a_run("c", created_at=5.0, status="failed"))
    store.put_run(a_run("b", created_at=9.0, model_name="koemorph", dataset_name="arkit"))
    assert [run.run_id for run in store.runs()] == ["b", "c", "a"]
    assert [run.run_id for run in store.runs(limit=2)] == ["b", "c"]
    assert [run.run_id for run in store.runs(model_name="vae")] == ["c", "a"]
    assert [run.run_id for run in store.runs(dataset_name="arkit")] == ["b"]
    assert [run.run_id for run in store.runs(model_name="vae", status="failed")] == ["c"]


def test_attempts_are_kept_in_order_and_ended(store: Store) -> None:
    second = an_attempt(2, start_step=40, resumed_from=f"{RUN}/a.pt")
    store.put_attempt(second)
    store.put_attempt(an_attempt(1))
    store.put_attempt(an_attempt(1, run_id="other"))
    store.end_attempt(RUN, 1, "crashed", 8.0)
    assert store.attempts(RUN) == [an_attempt(1, status="crashed", ended_at=8.0), second]
    with pytest.raises(NotFound, match="no attempt 3"):
        store.end_attempt(RUN, 3, "crashed", 8.0)


def test_an_attempt_ends_with_its_run(store: Store) -> None:
    """At the same moment: nobody sees the one ended and the other not."""
    store.put_run(a_run())
    store.put_attempt(an_attempt(1, started_at=1.0, status="crashed", ended_at=2.0))
    store.put_attempt(an_attempt(2, started_at=3.0))
    store.put_attempt(an_attempt(3, started_at=9.0))
    store.append([a_status("running", 4.0)])
    assert [a.ended_at for a in store.attempts(RUN)] == [2.0, None, None]
    store.append([a_status("crashed", 5.0), a_status("starting", 9.0)])
    ended = [(a.status, a.ended_at) for a in store.attempts(RUN)]
    assert ended == [("crashed", 2.0), ("crashed", 5.0), ("running", None)]


def a_status(status: str, time: float) -> Event:
    return Event(type="status", payload={"status": status}, run_id=RUN, time=time)


# Events


def test_events_are_numbered_from_one_and_come_back_as_returned(store: Store) -> None:
    assert store.last_seq() == 0
    first = store.append([log("こんにちは"), log("b", run_id=None)])
    second = store.append([log("\udcff half a character")])
    assert [event.seq for event in first + second] == [1, 2, 3]
    assert store.events() == first + second
    assert store.append([]) == []
    assert store.last_seq() == 3


def test_events_can_be_read_after_a_number_by_run_type_and_limit(store: Store) -> None:
    for step in range(10):
        store.append([progress(step, run_id="a"), log(f"{step}", run_id="b"), log("", run_id=None)])

    def seqs(**query: Any) -> list[int]:
        return [event.seq for event in store.events(**query)]

    assert seqs() == list(range(1, 31))
    assert seqs(after=7, limit=2) == [8, 9]
    assert seqs(run_id="b", after=5, limit=3) == [8, 11, 14]
    assert seqs(types=["progress"], after=20) == [22, 25, 28]
    assert seqs(types={"progress", "log"}, run_id="a", limit=2) == [1, 4]
    assert seqs(types={"log"}, run_id="a") == []
    assert seqs(types=[]) == []
    assert seqs(after=30) == []


@pytest.mark.parametrize(
    ("types", "index"), [(None, "events_by_run"), (["log"], "events_but_progress")]
)
def test_the_events_of_a_run_are_found_by_an_index(
    store: Store, types: list[str] | None, index: str
) -> None:
    queries: list[str] = []
    store._db.set_trace_callback(queries.append)
    store.events(run_id=RUN, after=5, types=types)
    store._db.set_trace_callback(None)
    plan = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {queries[0]}")]
    assert plan == [f"SEARCH events USING INDEX {index} (run_id=? AND seq>?)"]


def test_an_event_that_is_not_json_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(TypeError):
        store.append([log("good"), Event(type="log", payload={"a": object()}, time=1.0)])
    assert store.events() == []


def test_a_rolled_back_append_leaves_no_gap_and_no_series(store: Store) -> None:
    store.append([log("one")])
    too_large = progress(2**70)
    with pytest.raises(OverflowError):
        store.append([progress(1), too_large])
    assert store.keys(RUN) == []
    assert store.raw_points(RUN, "loss") == []
    assert [event.seq for event in store.append([progress(2, 0.5)])] == [2]
    assert store.raw_points(RUN, "loss") == [(2, 0.5)]
    assert store.keys(RUN) == ["loss"]


def test_status_events_change_the_status_of_their_run_only(store: Store) -> None:
    store.put_run(a_run())
    store.put_run(a_run("other"))
    payload = {"status": "paused", "message": "disk full"}
    store.append([Event(type="status", payload=payload, run_id=RUN, time=222.0)])
    changed = {"status": "paused", "message": "disk full", "updated_at": 222.0}
    assert store.run(RUN) == a_run().model_copy(update=changed)
    assert store.run("other") == a_run("other")
    store.append([Event(type="status", payload={"status": "dancing"}, run_id=RUN, time=223.0)])
    assert store.run(RUN) == a_run().model_copy(update=changed)


def test_progress_and_finished_epochs_are_seen_in_their_run(store: Store) -> None:
    store.put_run(a_run())
    store.append([progress(7), progress(8)])
    run = store.run(RUN)
    assert run is not None
    assert (run.global_step, run.epoch) == (8, 0)
    payload = {"epoch": 2, "global_step": 8, "val_loss": 0.5}
    store.append([Event(type="validation_result", payload=payload, run_id=RUN, time=1.0)])
    assert (run := store.run(RUN)) is not None
    assert run.epoch == 2
    store.append([Event(type="checkpoint", payload={"epoch": 3}, run_id=RUN, time=1.0)])
    assert (run := store.run(RUN)) is not None
    assert run.epoch == 3


def test_a_message_with_half_a_character_still_reports_the_failure(store: Store) -> None:
    store.put_run(a_run())
    payload = {"status": "failed", "message": "no file a\udcffb"}
    store.append([Event(type="status", payload=payload, run_id=RUN, time=2.0)])
    run = store.run(RUN)
    assert run is not None
    assert (run.status, run.message) == ("failed", "no file a\\udcffb")


def test_a_durable_append_is_synced_and_others_are_not(store: Store) -> None:
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)

    def modes() -> list[str]:
        """The synchronous mode that was in force at every commit."""
        mode, seen = "NORMAL", []
        for statement in statements:
            if statement.startswith("PRAGMA synchronous="):
                mode = statement.partition("=")[2]
            elif statement == "COMMIT":
                seen.append(mode)
        statements.clear()
        return seen

    store.append([log("a")])
    assert modes() == ["NORMAL"]
    store.append([log("b")], durable=True)
    assert modes() == ["FULL"]
    store.append([], durable=True)
    assert modes() == ["FULL"]
    assert store._db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_an_empty_durable_append_writes_to_the_wal_that_it_has_to_sync(
    store: Store, path: Path
) -> None:
    store.append([log("a")])
    wal = path.with_name("tsuzuku.db-wal")
    before = wal.stat().st_size
    store.append([])
    assert wal.stat().st_size == before
    store.append([], durable=True)
    assert wal.stat().st_size > before


# Metrics


def test_metrics_of_events_become_points(store: Store) -> None:
    payload = {"epoch": 1, "global_step": 3, "val_loss": 0.75, "wer": 0.5}
    validation = Event(type="validation_result", payload=payload, run_id=RUN, time=1.0)
    store.append([progress(1, 0.9), progress(2, 0.8), progress(3, 0.7), validation])
    store.append([progress(2, 0.1), progress(1, 5.0, run_id="other"), progress(1, run_id=None)])
    assert store.keys(RUN) == ["loss", "val_loss", "wer"]
    assert store.raw_points(RUN, "loss") == [(1, 0.9), (2, 0.1), (3, 0.7)]
    assert store.raw_points(RUN, "val_loss") == [(3, 0.75)]
    assert store.raw_points("other", "loss") == [(1, 5.0)]
    curve = store.curve(RUN, "loss", from_step=2)
    assert (curve.step, curve.value, curve.min, curve.max) == ([2, 3], *([[0.1, 0.7]] * 3))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_null_in_json_and_a_point_without_value(
    store: Store, wrong: float
) -> None:
    returned = store.append([progress(1, 0.5), progress(2, wrong)])
    assert returned[1].payload["loss"] is None
    assert store.events() == returned
    (text,) = store._db.execute("SELECT payload FROM events WHERE seq = 2").fetchone()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None
    assert store.raw_points(RUN, "loss") == [(1, 0.5), (2, None)]


def test_a_curve_holds_no_more_buckets_than_asked_for(store: Store) -> None:
    store.add_points(RUN, "loss", range(10_000), [float(step) for step in range(10_000)])
    curve = store.curve(RUN, "loss", points=100)
    assert 50 <= len(curve.step) <= 100
    assert (min(v for v in curve.min if v is not None), curve.max[-1]) == (0.0, 9999.0)
    assert store.curve(RUN, "unknown").step == []
    store.append([log("the store still writes")])


def test_adding_no_points_makes_no_series(store: Store) -> None:
    store.add_points(RUN, "loss", [], [])
    assert store.keys(RUN) == []


# Checkpoints and proofs


def test_checkpoints_are_listed_newest_first_filtered_replaced_and_dropped(store: Store) -> None:
    a = a_checkpoint("a.pt", created_at=5.0, global_step=10, kept_because=["best"], is_best=True)
    b = a_checkpoint("b.pt", created_at=5.0, global_step=20, metrics={"val_loss": math.nan})
    c = a_checkpoint("a.pt", run_id="other", created_at=9.0, model_name="koemorph")
    for checkpoint in (a_checkpoint("a.pt"), a, b, c):
        store.put_checkpoint(checkpoint)
    b = b.model_copy(update={"metrics": {"val_loss": None}})
    assert store.checkpoints() == [c, b, a]
    assert store.checkpoints(limit=1) == [c]
    assert store.checkpoints(name="a.pt") == [c, a]
    assert store.checkpoints(run_id=RUN, name="a.pt") == [a]
    assert store.checkpoints(model_name="vae", dataset_name="mnist") == [b, a]
    store.drop_checkpoint(RUN, "a.pt")
    store.drop_checkpoint(RUN, "never-there.pt")
    assert store.checkpoints() == [c, b]


def test_proofs_are_listed_newest_first(store: Store) -> None:
    store.put_proof("vae", "mnist", "s1", {"exact": True, "kills": 3}, 10.0)
    store.put_proof("vae", "mnist", "s2", {"exact": False}, 20.0)
    store.put_proof("koemorph", "arkit", "s3", {}, 15.0)
    first = {"model_name": "vae", "dataset_name": "mnist", "source_sha256": "s1", "time": 10.0}
    first |= {"verdict": {"exact": True, "kills": 3}}
    assert [proof["source_sha256"] for proof in store.proofs()] == ["s2", "s3", "s1"]
    assert store.proofs(model_name="vae")[1] == first
    assert [proof["time"] for proof in store.proofs(dataset_name="arkit")] == [15.0]


# Several processes and threads

APPEND = """
import sys
from pathlib import Path
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
path, name, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with Store(path) as store:
    for batch in range(batches):
        steps = range(batch * 5, batch * 5 + 5)
        done = store.append(
            [
                Event(
                    type="progress",
                    payload={"global_step": step, "loss": step / 7},
                    run_id=name,
                    time=float(step),
                )
                for step in steps
            ],
            durable=batch % 50 == 0,
        )
        print(done[-1].seq, flush=True)
"""


def test_two_processes_share_one_gapless_sequence(path: Path) -> None:
    processes = [python(APPEND, path, name, 200) for name in ("a", "b")]
    start_together(processes)
    returned = [[int(seq) for seq in finish(p).split()] for p in processes]
    assert_sound(path)
    with Store(path) as store:
        assert store.last_seq() == 2000
        for name, last_of_batch in zip("ab", returned, strict=True):
            events = store.events(run_id=name, limit=5000)
            assert [event.payload["global_step"] for event in events] == list(range(1000))
            assert [event.seq for event in events[4::5]] == last_of_batch


def test_many_processes_may_make_the_database_at_once(path: Path) -> None:
    processes = [python(APPEND, path, name, 2) for name in "abcdef"]
    start_together(processes)
    for process in processes:
        finish(process)
    assert_sound(path)
    with Store(path) as store:
        assert store.last_seq() == 60


def test_a_process_killed_while_it_appends_loses_nothing_it_was_told_is_there(path: Path) -> None:
    total = 0
    for round_ in range(4):
        process = python(APPEND, path, f"r{round_}", 1_000_000)
        start_together([process])
        assert process.stdout is not None
        told = 0
        for line in process.stdout:
            told = int(line)
            if told > total + 40 + 37 * round_:
                break
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        told = max([told, *map(int, rest.split("\n")[:-1])])
        assert_sound(path)
        with Store(path) as store:
            total = store.last_seq()
            assert total >= told
            points = store.raw_points(f"r{round_}", "loss")
            assert points == [
                (event.payload["global_step"], event.payload["loss"])
                for event in store.events(run_id=f"r{round_}", limit=10**6)
            ]


def test_threads_may_share_a_store(store: Store, path: Path) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for step in range(50):
                store.append([progress(step, run_id=name)], durable=step % 20 == 0)
                assert len(store.curve(name, "loss").step) == step + 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.last_seq() == 150
    assert_sound(path)


def test_a_writer_that_never_ends_is_reported_as_busy(store: Store, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout = 20")
    with pytest.raises(Busy, match=r"tsuzuku\.db"):
        store.append([log("a")])
    other.execute("ROLLBACK")
    other.close()
    assert store.append([log("a")])[0].seq == 1


# What can go wrong


def test_a_full_disk_is_reported_and_survived(store: Store, path: Path) -> None:
    store.append([progress(0)])
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFull, match=r"No room is left for .*tsuzuku\.db"):
        store.append([progress(step, run_id="new") for step in range(2000)])
    assert store.last_seq() == 1
    assert store.keys("new") == []
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert store.append([progress(1), progress(5, run_id="new")])[-1].seq == 3
    assert store.raw_points("new", "loss") == [(5, 1.0)]
    assert_sound(path)


READ_ONLY = """
import os, sys
from pathlib import Path
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.store import Store
if os.getuid() == 0:
    os.setuid(65534)  # to root nothing is read-only
try:
    Store(Path(sys.argv[1]))
except TsuzukuError as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_folder_is_reported_in_one_sentence(exists: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tsuzuku.db"
        if exists:
            Store(path).close()
        Path(folder).chmod(0o555)
        said = finish(python(READ_ONLY, path))
        Path(folder).chmod(0o755)
    assert said.startswith(f"{path} cannot be opened for writing (")
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TsuzukuError, match=r"folder .*file/outputs cannot be made"):
        Store(tmp_path / "file" / "outputs" / "tsuzuku.db")


def test_a_file_that_is_no_database_is_reported_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but a long enough text" * 100)
    before = path.read_bytes()
    with pytest.raises(TsuzukuError, match="damaged or no database") as caught:
        Store(path)
    assert "tsuzuku runs --rebuild" in caught.value.hint
    assert path.read_bytes() == before


def test_a_truncated_database_is_reported(path: Path) -> None:
    with Store(path) as store:
        store.append([log("x" * 500) for _ in range(200)])
    os.truncate(path, 3 * 4096)
    with pytest.raises(TsuzukuError, match="damaged") as caught, Store(path) as store:
        store.events()
    assert "tsuzuku runs --rebuild" in caught.value.hint


def test_a_database_of_the_schema_before_goes_on(path: Path) -> None:
    with Store(path) as store:
        store.put_run(a_run())
        with store.writing() as db:
            db.execute("DROP TABLE checks")
            db.execute("PRAGMA user_version = 3")
    with Store(path) as store:
        assert [r.run_id for r in store.runs()] == [RUN]
        store.note_check("r", "c.pt", "abc", 12.5)
        assert store.checked_at("r", "c.pt") == 12.5


def test_a_database_from_before_fine_tuning_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {k: v for k, v in Run.model_fields.items() if k != "fine_tuning"}
    old = listing._item(item, resumed_from="resumed_from", attempts="json(attempts)")
    tables = database._LISTED.replace("fine_tuning INTEGER NOT NULL DEFAULT 0,", "")
    with monkeypatch.context() as patched:
        patched.setattr(database, "_LISTED", tables.replace(listing.RUN_ITEM, old))
        patched.setattr(database, "SCHEMA_VERSION", 4)
        with closing(database.connect(path)) as db:
            columns = [c[1] for c in db.execute("PRAGMA table_info(runs)")]
            assert "fine_tuning" not in columns
            known = {k: v for k, v in a_run().model_dump().items() if k in columns}
            names, marks = ", ".join(known), ", ".join("?" * len(known))
            db.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", list(known.values()))
    with Store(path) as store:
        assert store.runs() == [a_run()]
        store.put_attempt(an_attempt(1))
        store.put_run(a_run("later", fine_tuning=True))
        assert [(r.run_id, r.fine_tuning) for r in store.runs()] in (
            [("later", True), (RUN, False)],
            [(RUN, False), ("later", True)],
        )


def test_a_newer_schema_is_refused(path: Path) -> None:
    with Store(path) as store:
        store._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(TsuzukuError, match="newer Tsuzuku"):
        Store(path)


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name)")
    other.commit()
    with pytest.raises(TsuzukuError, match="another program"):
        Store(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()


# Making it again


def the_runs() -> list[tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]]:
    a = [progress(1, 0.9, "a", 10.0), progress(2, math.nan, "a", 30.0)]
    a.append(Event(type="status", payload={"status": "crashed"}, run_id="a", time=30.0, seq=3))
    b = [log("first", "b", 5.0), log("same time", "b", 30.0).model_copy(update={"seq": 2})]
    attempts = [an_attempt(1, run_id="a"), an_attempt(2, run_id="a")]
    done = a_run("a", status="completed", message="done", epoch=3, global_step=77)
    return [
        (done, attempts, iter(a), [a_checkpoint("a.pt", run_id="a")]),
        (a_run("b", created_at=200.0), [], iter(b), []),
    ]


def test_rebuilding_numbers_all_events_by_time_and_restores_everything(path: Path) -> None:
    rebuild(path, the_runs())
    with Store(path) as store:
        events = store.events()
        assert [(e.seq, e.run_id, e.time, e.type) for e in events] == [
            (1, "b", 5.0, "log"),
            (2, "a", 10.0, "progress"),
            (3, "a", 30.0, "progress"),
            (4, "b", 30.0, "log"),
            (5, "a", 30.0, "status"),
        ]
        given = the_runs()
        assert store.runs() == [given[1][0], given[0][0]]
        # the folders knew of no end; the events do
        ended = [a.model_copy(update={"status": "crashed", "ended_at": 30.0}) for a in given[0][1]]
        assert store.attempts("a") == ended
        assert store.checkpoints() == given[0][3]
        assert store.raw_points("a", "loss") == [(1, 0.9), (2, None)]
        assert store.append([log("next")])[0].seq == 6
    assert_sound(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["tsuzuku.db"]


def test_rebuilding_sets_every_old_database_aside_with_its_wal(path: Path) -> None:
    path.parent.mkdir()
    wal = path.with_name("tsuzuku.db-wal")
    old = [b"garbage", b"longer garbage" * 1000, b""]
    for round_ in range(3):
        path.write_bytes(old[round_])
        wal.write_bytes(b"old wal %d" % round_)
        rebuild(path, the_runs())
        assert_sound(path)
    with Store(path) as store:
        assert store.last_seq() == 5
    for round_, name in enumerate(["damaged", "damaged.2", "damaged.3"]):
        assert path.with_name(f"tsuzuku.db.{name}").read_bytes() == old[round_]
        assert path.with_name(f"tsuzuku.db.{name}-wal").read_bytes() == b"old wal %d" % round_


def test_rebuilding_a_readable_database_keeps_its_proofs(path: Path) -> None:
    with Store(path) as store:
        store.append([log("gone")])
        store.put_proof("vae", "mnist", "s1", {"exact": True}, 10.0)
        store.put_proof("vae", "mnist", "s2", {"exact": False}, 10.0)
        proofs = store.proofs()
    rebuild(path, [])
    with Store(path) as store:
        assert store.proofs() == proofs
        assert store.events() == []
    with Store(path.with_name("tsuzuku.db.damaged")) as old:
        assert [event.payload["message"] for event in old.events()] == ["gone"]


def test_rebuilding_that_fails_leaves_the_old_database_in_place(path: Path) -> None:
    def runs() -> Iterator[tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]]:
        yield the_runs()[0]
        raise RuntimeError("unreadable journal")

    with Store(path) as store:
        store.append([log("old")])
    with pytest.raises(RuntimeError, match="unreadable journal"):
        rebuild(path, runs())
    assert [entry.name for entry in path.parent.iterdir()] == ["tsuzuku.db"]
    with Store(path) as store:
        assert [event.payload["message"] for event in store.events()] == ["old"]


def test_rebuilding_keeps_the_order_of_more_events_than_one_batch(path: Path) -> None:
    events = [progress(step, step / 3, "a", time=float(20_000 - step)) for step in range(12_000)]
    rebuild(path, [(a_run("a"), [], events, [])])
    with Store(path) as store:
        seen = [event.payload["global_step"] for event in store.events(limit=20_000)]
        assert seen == list(range(11_999, -1, -1))
        assert len(store.raw_points("a", "loss")) == 12_000
    assert_sound(path)
