"""`outputs/tsuzuku.db`: runs, attempts, events, metrics, the checkpoint index and proofs.

SQLite in WAL mode, opened by several processes at once. Everything in it but the proofs can be
made again from the run directories: see `rebuild`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel

from tsuzuku.core import curves
from tsuzuku.core.errors import Busy, DiskFull, NotFound, TsuzukuError
from tsuzuku.core.schemas import (
    Attempt,
    Checkpoint,
    Curve,
    Event,
    Run,
    Status,
    jsonable,
    metrics_of,
)

SCHEMA_VERSION = 1
PATIENCE = 30.0
"""Seconds to wait for other processes that write."""

_TABLES = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    status TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL, parent TEXT,
    attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    total_epochs INTEGER NOT NULL, best_metric REAL, message TEXT NOT NULL
);
CREATE TABLE attempts (
    run_id TEXT NOT NULL, attempt INTEGER NOT NULL, pid INTEGER NOT NULL, hostname TEXT NOT NULL,
    started_at REAL NOT NULL, ended_at REAL, status TEXT NOT NULL, resumed_from TEXT,
    start_step INTEGER NOT NULL, PRIMARY KEY (run_id, attempt)
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, type TEXT NOT NULL, time REAL NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run_id, seq);
CREATE INDEX events_but_progress ON events (run_id, seq) WHERE type != 'progress';
CREATE TABLE checkpoints (
    run_id TEXT NOT NULL, name TEXT NOT NULL, model_name TEXT NOT NULL,
    dataset_name TEXT NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    path TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, created_at REAL NOT NULL,
    metrics TEXT NOT NULL, is_best INTEGER NOT NULL, is_latest INTEGER NOT NULL,
    kept_because TEXT NOT NULL, verified INTEGER NOT NULL, pinned INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE TABLE proofs (
    id INTEGER PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    source_sha256 TEXT NOT NULL, verdict TEXT NOT NULL, time REAL NOT NULL
);
"""

_STATUSES = frozenset(get_args(Status))
_JSON_COLUMNS = frozenset({"metrics", "kept_because", "verdict"})

R = TypeVar("R", bound=BaseModel)


class Store:
    """One open `tsuzuku.db`, made when it is not there; may be used from several threads.

    Every method raises `DiskFull` when there is no room, `Busy` when others write for more than
    `PATIENCE`, and `TsuzukuError` when the file is damaged or cannot be read or written. What
    failed is then undone as a whole, and the store stays usable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._series: dict[tuple[str, str], int] = {}
        self._db = _connect(path)

    def close(self) -> None:
        with self._lock, _explained(self.path):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        """The connection, for one statement; nothing else uses it meanwhile."""
        with self._lock, _explained(self.path):
            yield self._db

    @contextmanager
    def _write(self, durable: bool = False) -> Generator[sqlite3.Connection]:
        """A transaction that is committed as a whole or not at all."""
        with self._lock, _explained(self.path):
            if durable:  # has no effect once a transaction has begun
                self._db.execute("PRAGMA synchronous=FULL")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._series.clear()  # it may know series that are not there any more
                if self._db.in_transaction:  # after some errors SQLite has rolled back itself
                    self._db.execute("ROLLBACK")
                raise
            finally:
                if durable:
                    self._db.execute("PRAGMA synchronous=NORMAL")

    def _put(self, table: str, row: dict[str, Any]) -> None:
        """Insert a row, or replace the one with its key."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._write() as db:
            db.execute(
                f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",
                [_cell(value) for value in row.values()],
            )

    def _rows(
        self, table: str, columns: Iterable[str], order: str, limit: int | None, **equal: Any
    ) -> list[dict[str, Any]]:
        """Rows whose columns are `equal` to the given values; None stands for any value."""
        names = tuple(columns)
        wanted = {name: value for name, value in equal.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in wanted) or "1"
        with self._read() as db:
            rows = db.execute(
                f"SELECT {', '.join(names)} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?",
                (*wanted.values(), -1 if limit is None else limit),
            ).fetchall()
        return [
            {
                name: json.loads(value) if name in _JSON_COLUMNS else value
                for name, value in zip(names, row, strict=True)
            }
            for row in rows
        ]

    # Runs and attempts

    def put_run(self, run: Run) -> None:
        self._put("runs", run.model_dump())

    def update_run(self, run_id: str, **fields: Any) -> None:
        """Change some fields of a run, and `updated_at` to now where that is not among them.

        Raises `NotFound` for an unknown run, TypeError for a name that is no field of `Run`, and
        pydantic's ValidationError for a value that its field does not take.
        """
        if unknown := fields.keys() - Run.model_fields.keys():
            raise TypeError(f"Run has no field {', '.join(sorted(unknown))}")
        run = self.run(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id} in {self.path}.", "See `tsuzuku runs`.")
        fields.setdefault("updated_at", time.time())
        changed = Run.model_validate({**run.model_dump(), **fields}).model_dump(include={*fields})
        with self._write() as db:
            _set(db, run_id, changed)

    def run(self, run_id: str) -> Run | None:
        rows = self._rows("runs", Run.model_fields, "run_id", 1, run_id=run_id)
        return Run.model_validate(rows[0]) if rows else None

    def runs(
        self,
        *,
        model_name: str | None = None,
        dataset_name: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Newest first."""
        equal = {"model_name": model_name, "dataset_name": dataset_name, "status": status}
        order = "created_at DESC, run_id DESC"
        return _models(Run, self._rows("runs", Run.model_fields, order, limit, **equal))

    def put_attempt(self, attempt: Attempt) -> None:
        self._put("attempts", attempt.model_dump())

    def end_attempt(self, run_id: str, attempt: int, status: Status, ended_at: float) -> None:
        """Raises `NotFound` where there is no such attempt."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE attempts SET status = ?, ended_at = ? WHERE run_id = ? AND attempt = ?",
                (status, ended_at, run_id, attempt),
            ).rowcount
        if not changed:
            raise NotFound(f"There is no attempt {attempt} of run {run_id} in {self.path}.")

    def attempts(self, run_id: str) -> list[Attempt]:
        """Oldest first."""
        rows = self._rows("attempts", Attempt.model_fields, "attempt", None, run_id=run_id)
        return _models(Attempt, rows)

    # Events

    def append(self, events: Sequence[Event], *, durable: bool = False) -> list[Event]:
        """Number and store events, with the metrics and changes of runs that they report.

        All or none of them. With `durable` they, and all that was appended before them, are on
        the disk when this returns; an empty `events` makes only the earlier ones durable.
        Otherwise a power failure, but no crash of a process, may lose the newest.
        """
        plain = [jsonable(event.payload) for event in events]
        texts = [json.dumps(p, allow_nan=False, separators=(",", ":")) for p in plain]
        points = _metrics(events)
        changes: dict[str, dict[str, Any]] = {}
        for event in events:
            if event.run_id is not None:
                changes.setdefault(event.run_id, {}).update(_reported(event))
        with self._write(durable) as db:
            last = _last_seq(db)
            db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                [
                    (seq, event.run_id, event.type, event.time, text)
                    for seq, event, text in zip(count(last + 1), events, texts, strict=False)
                ],
            )
            for (run_id, key), (steps, values) in points.items():
                curves.write(db, self._series_id(db, run_id, key), steps, values)
            for run_id, fields in changes.items():
                _set(db, run_id, fields)
            if durable and not events:  # a commit that writes nothing would sync nothing
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        return [
            Event(type=event.type, payload=p, run_id=event.run_id, time=event.time, seq=seq)
            for seq, event, p in zip(count(last + 1), events, plain, strict=False)
        ]

    def events(
        self,
        *,
        after: int = 0,
        run_id: str | None = None,
        limit: int = 1000,
        types: Collection[str] | None = None,
    ) -> list[Event]:
        """At most `limit` events with a `seq` above `after`, ascending."""
        where, bound = "seq > ?", [after]
        if run_id is not None:
            where, bound = where + " AND run_id = ?", [*bound, run_id]
        if types is not None:
            where, bound = where + f" AND type IN ({', '.join('?' * len(types))})", [*bound, *types]
            if "progress" not in types:  # lets SQLite use the index that leaves out the many
                where += " AND type != 'progress'"
        with self._read() as db:
            rows = db.execute(
                "SELECT seq, run_id, type, time, payload FROM events"
                f" WHERE {where} ORDER BY seq LIMIT ?",
                (*bound, limit),
            ).fetchall()
        return [
            Event(seq=seq, run_id=run, type=kind, time=at, payload=json.loads(text))
            for seq, run, kind, at, text in rows
        ]

    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        with self._read() as db:
            return _last_seq(db)

    # Metrics

    def _series_id(self, db: sqlite3.Connection, run_id: str, key: str) -> int:
        """The number of a series, which is made when it is not there."""
        known = self._series.get((run_id, key))
        if known is None:
            known = _find_series(db, run_id, key)
        if known is None:
            query = "INSERT INTO series (run_id, key) VALUES (?, ?) RETURNING id"
            known = int(db.execute(query, (run_id, key)).fetchone()[0])
        self._series[run_id, key] = known
        return known

    def keys(self, run_id: str) -> list[str]:
        """The names of a run's metrics, in alphabetical order."""
        with self._read() as db:
            rows = db.execute("SELECT key FROM series WHERE run_id = ? ORDER BY key", (run_id,))
            return [key for (key,) in rows]

    def curve(
        self,
        run_id: str,
        key: str,
        *,
        points: int = 2000,
        from_step: int | None = None,
        to_step: int | None = None,
    ) -> Curve:
        """One metric from one step to another (both included): see `curves.read`.

        Empty for an unknown run or key.
        """
        with self._read() as db:
            db.execute("BEGIN")  # so that all of its statements see one state
            try:
                series = _find_series(db, run_id, key)
                if series is None:
                    return Curve(step=[], value=[], min=[], max=[])
                return curves.read(db, series, points, from_step, to_step)
            finally:
                db.execute("ROLLBACK")

    def add_points(
        self, run_id: str, key: str, steps: Sequence[int], values: Sequence[float | None]
    ) -> None:
        """Store many points of one metric at once; a step that is there is overwritten."""
        if steps:
            with self._write() as db:
                curves.write(db, self._series_id(db, run_id, key), steps, values)

    def raw_points(self, run_id: str, key: str) -> list[tuple[int, float | None]]:
        """All points of one metric, ascending; None stands for what was not finite."""
        with self._read() as db:
            series = _find_series(db, run_id, key)
            return [] if series is None else curves.raw(db, series)

    # Checkpoints and proofs

    def put_checkpoint(self, c: Checkpoint) -> None:
        self._put("checkpoints", c.model_dump())

    def drop_checkpoint(self, run_id: str, name: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM checkpoints WHERE run_id = ? AND name = ?", (run_id, name))

    def checkpoints(
        self,
        *,
        model_name: str | None = None,
        dataset_name: str | None = None,
        run_id: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """Newest first."""
        equal = {"model_name": model_name, "dataset_name": dataset_name}
        equal |= {"run_id": run_id, "name": name}
        order = "created_at DESC, global_step DESC, run_id DESC, name DESC"
        rows = self._rows("checkpoints", Checkpoint.model_fields, order, limit, **equal)
        return _models(Checkpoint, rows)

    def put_proof(
        self,
        model_name: str,
        dataset_name: str,
        source_sha256: str,
        verdict: dict[str, Any],
        time: float,
    ) -> None:
        row = {"model_name": model_name, "dataset_name": dataset_name}
        self._put(
            "proofs", row | {"source_sha256": source_sha256, "verdict": verdict, "time": time}
        )

    def proofs(
        self, *, model_name: str | None = None, dataset_name: str | None = None
    ) -> list[dict[str, Any]]:
        """What `put_proof` was given, newest first."""
        columns = ("model_name", "dataset_name", "source_sha256", "verdict", "time")
        equal = {"model_name": model_name, "dataset_name": dataset_name}
        return self._rows("proofs", columns, "time DESC, id DESC", None, **equal)


def _models(model: type[R], rows: list[dict[str, Any]]) -> list[R]:
    return [model.model_validate(row) for row in rows]


def _cell(value: Any) -> Any:
    """A value as SQLite stores it: containers as JSON, no NaN, no half characters."""
    plain = jsonable(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, allow_nan=False)
    if isinstance(plain, str):  # an undecodable file name in a message must not stop a run
        return plain.encode("utf-8", "backslashreplace").decode()
    return plain


def _set(db: sqlite3.Connection, run_id: str, fields: dict[str, Any]) -> None:
    if fields:
        names = ", ".join(f"{name} = ?" for name in fields)
        cells = [_cell(value) for value in fields.values()]
        db.execute(f"UPDATE runs SET {names} WHERE run_id = ?", (*cells, run_id))


def _last_seq(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return row[0] if row else 0


def _find_series(db: sqlite3.Connection, run_id: str, key: str) -> int | None:
    query = "SELECT id FROM series WHERE run_id = ? AND key = ?"
    row = db.execute(query, (run_id, key)).fetchone()
    return row[0] if row else None


def _metrics(
    events: Sequence[Event],
) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """Steps and values that events report, by run and key."""
    points: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for event in events:
        if event.run_id is None:
            continue
        step, metrics = metrics_of(event)
        for key, value in metrics.items():
            steps, values = points.setdefault((event.run_id, key), ([], []))
            steps.append(step)
            values.append(value)
    return points


def _reported(event: Event) -> dict[str, Any]:
    """The fields of a run that an event changes."""
    payload = event.payload
    if event.type == "status" and payload.get("status") in _STATUSES:
        message = str(payload.get("message") or "")
        return {"status": payload["status"], "message": message, "updated_at": event.time}
    if event.type == "progress" and isinstance(payload.get("global_step"), int):
        return {"global_step": payload["global_step"]}
    if event.type in ("validation_result", "checkpoint") and isinstance(payload.get("epoch"), int):
        return {"epoch": payload["epoch"]}
    return {}


# Opening, and what can be wrong with a database


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TsuzukuError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error
    with _explained(path):
        # Transactions are begun by hand, threads are kept apart by the lock of the store.
        db = sqlite3.connect(path, PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            if _version(db, path) == 0:
                _use_wal(db, path)
                _create(db, path)
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA journal_size_limit=67108864")  # bytes kept of a WAL that grew
            _last_seq(db)  # a file whose tables cannot be read is found out here
        except BaseException:
            db.close()
            raise
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise TsuzukuError(
            f"{path} was written by a newer Tsuzuku (schema {version}, this one knows"
            f" {SCHEMA_VERSION}).",
            "Update Tsuzuku, or make the database again with `tsuzuku runs --rebuild`.",
            code="newer_schema",
        )
    return version


def _use_wal(db: sqlite3.Connection, path: Path) -> None:
    """Switch a new database to WAL, which fails at once, not patiently, while others do so."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            break
    if mode != "wal":
        raise TsuzukuError(
            f"SQLite cannot use WAL for {path}.", "Keep the workspace on a local file system."
        )


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, all or none, unless another process has just done so."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if _version(db, path) == 0:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise TsuzukuError(f"{path} is a database of another program.")
            for statement in (_TABLES + curves.TABLES).split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python's module raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _explained(path: Path) -> Generator[None]:
    """Turn SQLite's errors that a person can act on into ours; others pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL or _full_disk(error):
            raise DiskFull(f"No room is left for {path}.", "Free some disk space.") from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise TsuzukuError(
                f"{path} is damaged or no database ({error}).",
                "Make it again from the run directories with `tsuzuku runs --rebuild`.",
                code="damaged_database",
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Busy(f"Another process has been writing to {path} for too long.") from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise TsuzukuError(
                f"{path} cannot be opened for writing ({error}).", code="read_only"
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise TsuzukuError(f"{path} cannot be read or written ({error}).") from error
        raise


def _full_disk(error: sqlite3.Error) -> bool:
    # The shared-memory file beside the database is the one place where SQLite reports a full
    # disk as an input/output error.
    return getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"


# Making a database again


def rebuild(
    path: Path, runs: Iterable[tuple[Run, list[Attempt], Iterable[Event], list[Checkpoint]]]
) -> None:
    """Make the database at `path` anew from what the run directories hold.

    Events are numbered from 1 in the order of time (then of their old number). Proofs, which no
    run directory holds, are taken over from the old database where it can still be read; it is
    kept as `tsuzuku.db.damaged` (`.damaged.2`, …). Nobody else may have it open. Until the new
    one is complete nothing is touched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rebuild-", dir=path.parent) as folder:
        new = Path(folder) / path.name
        with Store(new) as store:
            records = _stage(Path(folder) / "events", runs)
            _append_staged(store, Path(folder) / "events")
            for run, attempts, checkpoints in records:
                store.put_run(run)  # after its events, which would have changed it
                for attempt in attempts:
                    store.put_attempt(attempt)
                for checkpoint in checkpoints:
                    store.put_checkpoint(checkpoint)
            for model, dataset, source, verdict, at in _old_proofs(path):
                store.put_proof(model, dataset, source, json.loads(verdict), at)
        with _explained(new), closing(sqlite3.connect(new)) as db:
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
    with _explained(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
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
    with _explained(path), closing(sqlite3.connect(path)) as db:
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


def _old_proofs(path: Path) -> list[tuple[Any, ...]]:
    """The proofs in a database that may be damaged, oldest first; none if they are lost."""
    # Read-only: otherwise SQLite deletes a WAL that does not fit its database, which may hold
    # what somebody wants to look at. It does so for an empty file in any mode.
    if not path.exists() or path.stat().st_size == 0:
        return []
    columns = "model_name, dataset_name, source_sha256, json(verdict), time"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT {columns} FROM proofs ORDER BY id").fetchall()
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
