"""`outputs/tsuzuku.db`: runs, attempts, events, metrics, the checkpoint index and proofs.

SQLite in WAL mode, opened by several processes at once. Everything in it but the proofs can be
made again from the run directories: see `rebuild`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

from tsuzuku.core import curves, listing
from tsuzuku.core.checkpoint_index import CheckpointIndex
from tsuzuku.core.database import SCHEMA_VERSION, last_seq
from tsuzuku.core.errors import NotFound
from tsuzuku.core.projection import points_of, reported
from tsuzuku.core.rows import insert
from tsuzuku.core.schemas import (
    ACTIVE,
    FINAL,
    Attempt,
    Curve,
    Event,
    EventType,
    Run,
    Status,
    jsonable,
)
from tsuzuku.core.tables import cell, models


class Store(CheckpointIndex):
    """What is stored of runs, attempts, events, metrics, checkpoints and proofs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._series: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        self._series.clear()  # it may know series that are not there any more

    # Runs and attempts

    def put_run(self, run: Run) -> None:
        self.put("runs", run.model_dump())

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
        with self.writing() as db:
            _set(db, run_id, changed)

    def run(self, run_id: str) -> Run | None:
        rows = self.rows("runs", Run.model_fields, "run_id", 1, run_id=run_id)
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
        return models(Run, self.rows("runs", Run.model_fields, order, limit, **equal))

    def runs_json(self, **chosen: Any) -> list[str]:
        """The same as JSON, each with its attempts: see `listing.runs` for what can be chosen."""
        with self.reading() as db:
            return listing.runs(db, **chosen)

    def parents(self) -> list[str]:
        """Every checkpoint (`run_id/name`) that a run branched from."""
        with self.reading() as db:
            rows = db.execute("SELECT DISTINCT parent FROM runs WHERE parent IS NOT NULL")
            return [str(row[0]) for row in rows]

    def count(self, table: Literal["runs", "checkpoints"]) -> int:
        with self.reading() as db:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def last_moved(self) -> Run | None:
        """The run whose status or position changed last."""
        order = "updated_at DESC, run_id DESC"
        rows = self.rows("runs", Run.model_fields, order, 1)
        return Run.model_validate(rows[0]) if rows else None

    def put_attempt(self, attempt: Attempt) -> None:
        self.put("attempts", attempt.model_dump())

    def end_attempt(self, run_id: str, attempt: int, status: Status, ended_at: float) -> None:
        """Raises `NotFound` where there is no such attempt."""
        with self.writing() as db:
            changed = db.execute(
                "UPDATE attempts SET status = ?, ended_at = ? WHERE run_id = ? AND attempt = ?",
                (status, ended_at, run_id, attempt),
            ).rowcount
        if not changed:
            raise NotFound(f"There is no attempt {attempt} of run {run_id} in {self.path}.")

    def attempts(self, run_id: str) -> list[Attempt]:
        """Oldest first."""
        rows = self.rows("attempts", Attempt.model_fields, "attempt", None, run_id=run_id)
        return models(Attempt, rows)

    # Events

    def append(
        self, events: Sequence[Event], *, durable: bool = False, unless_ended: str | None = None
    ) -> list[Event]:
        """Number and store events, with the metrics and changes of runs that they report.

        A final status also ends the attempts of its run that had begun by then and are open.

        All or none of them. With `durable` they, and all that was appended before them, are on
        the disk when this returns; an empty `events` makes only the earlier ones durable.
        Otherwise a power failure, but no crash of a process, may lose the newest. With
        `unless_ended`, nothing is stored if that run has a final status already.
        """
        plain = [jsonable(event.payload) for event in events]
        texts = [json.dumps(p, allow_nan=False, separators=(",", ":")) for p in plain]
        points = points_of(events)
        changes: dict[str, dict[str, Any]] = {}
        for event in events:
            if event.run_id is not None:
                changes.setdefault(event.run_id, {}).update(reported(event))
        with self.writing(durable) as db:
            if unless_ended and not _is_active(db, unless_ended):
                return []
            last = last_seq(db)
            insert(
                db,
                "events",
                [
                    (seq, event.run_id, event.type, event.time, text)
                    for seq, event, text in zip(count(last + 1), events, texts, strict=False)
                ],
            )
            for steps, series in points.items():
                values = {self._series_id(db, *named): own for named, own in series.items()}
                curves.write(db, steps, values)
            for run_id, fields in changes.items():
                _set(db, run_id, fields)
            # with its run, so that nobody sees an ended run with an attempt that still runs
            db.executemany(
                "UPDATE attempts SET status = ?, ended_at = ?"
                " WHERE run_id = ? AND ended_at IS NULL AND started_at <= ?",
                [
                    (event.payload["status"], event.time, event.run_id, event.time)
                    for event in events
                    if event.type == "status" and event.payload.get("status") in FINAL
                ],
            )
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
        with self.reading() as db:
            rows = db.execute(
                "SELECT seq, run_id, type, time, payload FROM events"
                f" WHERE {where} ORDER BY seq LIMIT ?",
                (*bound, limit),
            ).fetchall()
        return [
            Event(seq=seq, run_id=run, type=kind, time=at, payload=json.loads(text))
            for seq, run, kind, at, text in rows
        ]

    def last_event(self, run_id: str, kind: EventType) -> Event | None:
        """The newest event of that type of a run."""
        return next(iter(self.recent_events(run_id, kind, 1)), None)

    def recent_events(self, run_id: str, kind: EventType, limit: int) -> list[Event]:
        """The newest events of that type of a run, the newest first."""
        query = (
            "SELECT seq, run_id, type, time, payload FROM events"
            " WHERE run_id = ? AND type = ? ORDER BY seq DESC LIMIT ?"
        )
        with self.reading() as db:
            rows = db.execute(query, (run_id, kind, limit)).fetchall()
        return [
            Event(seq=seq, run_id=run, type=type_, time=at, payload=json.loads(text))
            for seq, run, type_, at, text in rows
        ]

    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        with self.reading() as db:
            return last_seq(db)

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
        with self.reading() as db:
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
        with self.reading() as db:
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
            with self.writing() as db:
                curves.write(db, steps, {self._series_id(db, run_id, key): values})

    def raw_points(self, run_id: str, key: str) -> list[tuple[int, float | None]]:
        """All points of one metric, ascending; None stands for what was not finite."""
        with self.reading() as db:
            series = _find_series(db, run_id, key)
            return [] if series is None else curves.raw(db, series)

    # Proofs

    def put_proof(
        self,
        model_name: str,
        dataset_name: str,
        source_sha256: str,
        verdict: dict[str, Any],
        time: float,
    ) -> None:
        row = {"model_name": model_name, "dataset_name": dataset_name}
        self.put("proofs", row | {"source_sha256": source_sha256, "verdict": verdict, "time": time})

    def proofs(
        self, *, model_name: str | None = None, dataset_name: str | None = None
    ) -> list[dict[str, Any]]:
        """What `put_proof` was given, newest first."""
        columns = ("model_name", "dataset_name", "source_sha256", "verdict", "time")
        equal = {"model_name": model_name, "dataset_name": dataset_name}
        return self.rows("proofs", columns, "time DESC, id DESC", None, **equal)


def _is_active(db: sqlite3.Connection, run_id: str) -> bool:
    row = db.execute("SELECT status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return row is not None and row[0] in ACTIVE


def _set(db: sqlite3.Connection, run_id: str, fields: dict[str, Any]) -> None:
    if fields:
        names = ", ".join(f"{name} = ?" for name in fields)
        cells = [cell(value) for value in fields.values()]
        db.execute(f"UPDATE runs SET {names} WHERE run_id = ?", (*cells, run_id))


def _find_series(db: sqlite3.Connection, run_id: str, key: str) -> int | None:
    query = "SELECT id FROM series WHERE run_id = ? AND key = ?"
    row = db.execute(query, (run_id, key)).fetchone()
    return row[0] if row else None
