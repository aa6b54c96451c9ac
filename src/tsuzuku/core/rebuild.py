"""Making the database again from the run folders, when it is lost or damaged."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

from tsuzuku.core import checkpoint_files, lock
from tsuzuku.core.database import explained
from tsuzuku.core.errors import Busy, WrongInput
from tsuzuku.core.projection import reported
from tsuzuku.core.pruning import survey
from tsuzuku.core.schemas import ACTIVE, Attempt, Checkpoint, Event, Run
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

Recovered = tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]


def opened(workspace: Workspace, say: Callable[[str], object]) -> Store:
    """The workspace's store; made again from the run folders, which is said, if it is gone."""
    if not workspace.db.exists() and any(True for _ in workspace.run_dirs()):
        left_out: list[str] = []
        count = rebuild_from_folders(workspace, left_out)
        for sentence in left_out:
            say(sentence)
        say(f"{workspace.db.name} was gone; made again from {count} run folders.")
    return Store(workspace.db)


def rebuild_from_folders(workspace: Workspace, left_out: list[str] | None = None) -> int:
    """Make `outputs/tsuzuku.db` anew from the run folders; return the number of runs.

    A sentence for each folder that has to be left out is appended to `left_out`. Raises Busy while
    a worker is alive, which would go on writing to the old file.
    """
    folders = list(workspace.run_dirs())
    alive = next((run for run in folders if run.worker() is not None), None)
    if alive is not None:
        raise Busy(f"Run {alive.run_id} is being trained; stop it before the database is rebuilt.")
    if lock.holder(workspace.outputs / ".server.lock") not in (None, os.getpid()):
        raise Busy("A server has the database open; stop it before the database is rebuilt.")
    left_out = left_out if left_out is not None else []

    def readable() -> Iterator[Recovered]:
        for run in folders:
            try:
                yield _recovered(run)
            except (WrongInput, ValueError, KeyError, TypeError) as error:
                left_out.append(f"{run.path} was left out: {error}")

    rebuild(workspace.db, readable())
    return len(folders) - len(left_out)


def _recovered(run: RunDir) -> Recovered:
    identity = run.read_identity()
    files, _ = checkpoint_files.in_folder(run.checkpoints)
    attempts = [Attempt.model_validate(a) for a in identity.get("attempts", [])]
    record = Run(
        run_id=run.run_id,
        model_name=identity["model_name"],
        dataset_name=identity["dataset_name"],
        status="stopped",
        created_at=identity["created_at"],
        updated_at=identity["created_at"],
        parent=identity.get("parent"),
        fine_tuning=identity.get("fine_tuning") is True,
        attempt=len(attempts),
        total_epochs=identity["requested"]["training"]["num_epochs"],
    )
    changes: dict[str, Any] = {}
    for event in _journal(run):
        changes |= reported(event)
    if changes.get("status") in ACTIVE:
        changes["status"] = "crashed"
    if files:
        changes["best_metric"] = files[-1].info.get("best_val_loss")
    policy = RunSettings.model_validate(identity["requested"]).training.checkpoint
    # whatever is there stays; a policy that is stricter now is for the next pass to apply
    checkpoints = survey(files, policy.model_copy(update={"keep_last_n": None})).records
    return record.model_copy(update=changes), attempts, _journal(run), checkpoints


def _journal(run: RunDir) -> Iterator[Event]:
    """The events in a run's journal; a line that a crash cut short is left out."""
    if not run.journal.exists():
        return
    with run.journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield Event.model_validate_json(line)
            except ValueError:
                continue


def rebuild(
    path: Path, runs: Iterable[tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]]
) -> None:
    """Make the database at `path` anew from what the run directories hold.

    Events are numbered from 1 in the order of time (then of their old number). Proofs and pins,
    which no run directory holds, are taken over from the old database where it can still be read;
    it is kept as `tsuzuku.db.damaged` (`.damaged.2`, …). Nobody else may have it open. Until the
    new one is complete nothing is touched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rebuild-", dir=path.parent) as folder:
        new = Path(folder) / path.name
        with Store(new) as store:
            records = _stage(Path(folder) / "events", runs)
            for _, attempts, _ in records:
                for attempt in attempts:  # before the events: those that were killed end by them
                    store.put_attempt(attempt)
            _append_staged(store, Path(folder) / "events")
            for run, _, checkpoints in records:
                store.put_run(run)  # after its events, which would have changed it
                store.put_checkpoints(checkpoints)
            for model, dataset, source, verdict, at in _old_rows(path, PROOFS):
                store.put_proof(model, dataset, source, json.loads(verdict), at)
            pinned = set(_old_rows(path, PINS))
            for checkpoint in store.checkpoints():
                if (checkpoint.run_id, checkpoint.name) in pinned:
                    store.put_checkpoint(checkpoint.model_copy(update={"pinned": True}))
        with explained(new), closing(sqlite3.connect(new)) as db:
            # Closing has done it already, or has hidden that it failed.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _sync(new)
        _set_aside(path)
        new.rename(path)
    _sync(path.parent)


def _stage(
    path: Path, runs: Iterable[tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]]
) -> list[tuple[Run, list[Attempt], list[Checkpoint]]]:
    """Put all events into a table that keeps them in order: they need not fit into memory."""
    records: list[tuple[Run, list[Attempt], list[Checkpoint]]] = []
    number = count()
    with explained(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.execute(
            "CREATE TABLE staged (time, seq, number, type, run_id, payload,"
            " PRIMARY KEY (time, seq, number)) WITHOUT ROWID"
        )
        db.execute("BEGIN")
        for run, attempts, events, checkpoints in runs:
            records.append((run, attempts, checkpoints))
            db.executemany(
                "INSERT INTO staged VALUES (?, ?, ?, ?, ?, ?)",
                (
                    # With NaN where there is one: the metrics are still to be made of it.
                    (e.time, e.seq, next(number), e.type, e.run_id, json.dumps(e.payload))
                    for e in events
                ),
            )
        db.execute("COMMIT")
    return records


def _append_staged(store: Store, path: Path) -> None:
    with explained(path), closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            "SELECT type, run_id, time, payload FROM staged ORDER BY time, seq, number"
        )
        while chunk := list(islice(rows, 5000)):
            store.append(
                [
                    Event(type=kind, run_id=run_id, time=at, payload=json.loads(text))
                    for kind, run_id, at, text in chunk
                ]
            )


PROOFS = (
    "SELECT model_name, dataset_name, source_sha256, json(verdict), time FROM proofs ORDER BY id"
)
PINS = "SELECT run_id, name FROM checkpoints WHERE pinned"


def _old_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a database that may be damaged still says; nothing if that is lost."""
    # Read-only: otherwise SQLite deletes a WAL that does not fit its database, which may hold
    # what somebody wants to look at. It does so for an empty file in any mode.
    if not path.exists() or path.stat().st_size == 0:
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []


def _set_aside(path: Path) -> None:
    """Rename a database with its WAL, so that no new one is ever read with an old WAL."""
    suffixes = ("", "-wal", "-shm")
    aside = path.with_name(f"{path.name}.damaged")
    for number in count(2):
        if not any(Path(f"{aside}{suffix}").exists() for suffix in suffixes):
            break
        aside = path.with_name(f"{path.name}.damaged.{number}")
    for suffix in suffixes:
        if (part := Path(f"{path}{suffix}")).exists():
            part.rename(f"{aside}{suffix}")


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
