"""Opening the SQLite database, and what can be wrong with one."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tsuzuku.core import curves, listing
from tsuzuku.core.errors import Busy, DiskFull, TsuzukuError

SCHEMA_VERSION = 5
"""2: runs, attempts and checkpoints keep themselves as JSON, too. 3: runs with their attempts.
4: when each checkpoint was looked at last. 5: whether a run is a fine-tuning."""
PATIENCE = 30.0
"""Seconds to wait for other processes that write."""

_LISTED = f"""
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    status TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL, parent TEXT,
    fine_tuning INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    total_epochs INTEGER NOT NULL, best_metric REAL, message TEXT NOT NULL,
    resumed_from TEXT, attempts TEXT NOT NULL DEFAULT '[]',
    {listing.RUN_ITEM}
);
CREATE INDEX runs_by_time ON runs (created_at DESC, run_id DESC);
CREATE INDEX runs_by_change ON runs (updated_at DESC, run_id DESC);
CREATE INDEX runs_by_status ON runs (status);
CREATE TABLE attempts (
    run_id TEXT NOT NULL, attempt INTEGER NOT NULL, pid INTEGER NOT NULL, hostname TEXT NOT NULL,
    started_at REAL NOT NULL, ended_at REAL, status TEXT NOT NULL, resumed_from TEXT,
    start_step INTEGER NOT NULL,
    {listing.ATTEMPT_ITEM},
    PRIMARY KEY (run_id, attempt)
);
CREATE TABLE checkpoints (
    run_id TEXT NOT NULL, name TEXT NOT NULL, model_name TEXT NOT NULL,
    dataset_name TEXT NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    path TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, created_at REAL NOT NULL,
    metrics TEXT NOT NULL, is_best INTEGER NOT NULL, is_latest INTEGER NOT NULL,
    kept_because TEXT NOT NULL, verified INTEGER NOT NULL, pinned INTEGER NOT NULL,
    {listing.CHECKPOINT_ITEM},
    PRIMARY KEY (run_id, name)
);
CREATE INDEX checkpoints_by_time
    ON checkpoints (created_at DESC, global_step DESC, run_id DESC, name DESC);
"""

_CHECKS = """
CREATE TABLE IF NOT EXISTS checks (
    run_id TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (run_id, name)
)"""

# A run's row has its attempts in it, whoever writes which of the two in which order.
_ATTEMPTS_OF_A_RUN = """
UPDATE runs SET
    resumed_from = (
        SELECT resumed_from FROM attempts WHERE run_id = {row}.run_id ORDER BY attempt DESC LIMIT 1
    ),
    attempts = (
        SELECT json_group_array(json(item))
        FROM (SELECT item FROM attempts WHERE run_id = {row}.run_id ORDER BY attempt)
    )
WHERE run_id = {row}.run_id"""
_TRIGGERS = [
    f"CREATE TRIGGER {table}_after_{change.lower()} AFTER {change} ON {table}"
    f" BEGIN {_ATTEMPTS_OF_A_RUN.format(row='OLD' if change == 'DELETE' else 'NEW')}; END"
    for table, change in (
        ("runs", "INSERT"),
        ("attempts", "INSERT"),
        ("attempts", "UPDATE"),
        ("attempts", "DELETE"),
    )
]

_TABLES = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, type TEXT NOT NULL, time REAL NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run_id, seq);
CREATE INDEX events_but_progress ON events (run_id, seq) WHERE type != 'progress';
CREATE TABLE proofs (
    id INTEGER PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    source_sha256 TEXT NOT NULL, verdict TEXT NOT NULL, time REAL NOT NULL
);
"""


def connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TsuzukuError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error
    with explained(path):
        # Transactions are begun by hand, threads are kept apart by the lock of the store.
        db = sqlite3.connect(path, PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            version = _version(db, path)
            if version == 0:
                _use_wal(db, path)
                _create(db, path)
            elif version < SCHEMA_VERSION:
                _update(db, path)
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA journal_size_limit=67108864")  # bytes kept of a WAL that grew
            last_seq(db)  # a file whose tables cannot be read is found out here
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
            tables = (_LISTED + _TABLES + curves.TABLES).split(";")
            for statement in [*tables, _CHECKS, *_TRIGGERS]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _update(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of an older Tsuzuku those of this one, as a whole or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, path)  # another process may have just done so
        if version < SCHEMA_VERSION:
            _list_anew(db)
        if version < SCHEMA_VERSION:
            db.execute(_CHECKS)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _list_anew(db: sqlite3.Connection) -> None:
    """Make the tables that lists are read from as they are in this schema."""
    names = ("runs", "attempts", "checkpoints")
    rows = db.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index')"
        " AND sql IS NOT NULL AND tbl_name IN ('runs', 'attempts', 'checkpoints')"
    ).fetchall()
    for kind, name in rows:
        db.execute(f"DROP {kind} {name}")
    for name in names:
        db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    for statement in _LISTED.split(";"):
        db.execute(statement)
    for name in names:
        info = db.execute(f"PRAGMA table_info(old_{name})").fetchall()
        columns = ", ".join(column[1] for column in info)
        db.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM old_{name}")
        db.execute(f"DROP TABLE old_{name}")
    for trigger in _TRIGGERS:
        db.execute(trigger)
    db.execute("UPDATE attempts SET status = status")  # each run gets its own


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python's module raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def explained(path: Path) -> Generator[None]:
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
            folder = next(p for p in path.parents if p.exists())
            frozen = os.statvfs(folder).f_flag & os.ST_RDONLY
            why = "its file system is read-only" if frozen else str(error)
            raise TsuzukuError(
                f"{path} cannot be opened for writing ({why}).", code="read_only"
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise TsuzukuError(f"{path} cannot be read or written ({error}).") from error
        raise


def _full_disk(error: sqlite3.Error) -> bool:
    # The shared-memory file beside the database is the one place where SQLite reports a full
    # disk as an input/output error.
    return getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"


def last_seq(db: sqlite3.Connection) -> int:
    """The number of the newest event, 0 if there has been none."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return row[0] if row else 0
