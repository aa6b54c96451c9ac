"""Long listings as JSON text, of which each row keeps its own.

Ten thousand rows as Python objects take several tenths of a second to make, check and write;
this takes hundredths. The shapes are those of `answers.RunInfo` and `answers.CheckpointInfo`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from tsuzuku.core.schemas import Attempt, Checkpoint, Run

_CONTAINERS = frozenset({"metrics", "kept_because"})
_BOOLEANS = frozenset({"is_best", "is_latest", "verified", "pinned"})
_REALS = frozenset({"created_at", "updated_at", "started_at", "ended_at", "best_metric"})


def _item(fields: Iterable[str], **more: str) -> str:
    """The definition of a column that holds the row as a JSON object, kept by SQLite itself."""
    parts = [f"'{name}', {_cell(name)}" for name in fields]
    parts += [f"'{name}', {expression}" for name, expression in more.items()]
    return f"item TEXT GENERATED ALWAYS AS (json_object({', '.join(parts)})) STORED"


def _cell(name: str) -> str:
    if name in _CONTAINERS:
        return f"json({name})"
    if name in _BOOLEANS:
        return f"json(iif({name}, 'true', 'false'))"
    if name in _REALS:  # json_object would write 15 digits only, and 9e999 for infinity
        return f"json(iif(abs({name}) < 9e999, printf('%!.17g', {name}), 'null'))"
    return name


RUN_ITEM = _item(Run.model_fields)
ATTEMPT_ITEM = _item(Attempt.model_fields)
CHECKPOINT_ITEM = _item(Checkpoint.model_fields, size_mb="round(size / 1e6, 3)")


def runs(
    db: sqlite3.Connection,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    status: str | None = None,
    run_id: str | None = None,
    crashed: Collection[str] = (),
    limit: int | None = None,
    offset: int = 0,
) -> list[str]:
    """One JSON object a run with its attempts, newest first.

    The runs in `crashed` have that status, whatever their rows say.
    """
    equal = {"model_name": model_name, "dataset_name": dataset_name, "run_id": run_id}
    where, bound = _where(equal)
    if status is not None and crashed:
        where += f" AND iif(run_id IN ({_marks(crashed)}), 'crashed', status) = ?"
        bound += [*crashed, status]
    elif status is not None:
        where, bound = where + " AND status = ?", [*bound, status]
    rows = db.execute(
        f"SELECT run_id, item FROM runs WHERE {where}"
        " ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?",
        [*bound, -1 if limit is None else limit, offset],
    ).fetchall()
    attempts = _attempts(db, [run for run, _ in rows])
    if crashed:
        rows = [(run, _as_crashed(item) if run in crashed else item) for run, item in rows]
    texts: list[str] = []
    for run, item in rows:
        origin, own = attempts.get(run, (None, ""))
        quoted = "null" if origin is None else json.dumps(origin, ensure_ascii=False)
        texts.append(f'{item[:-1]},"resumed_from":{quoted},"attempts":[{own}]}}')
    return texts


def _as_crashed(item: str) -> str:
    return json.dumps({**json.loads(item), "status": "crashed"}, ensure_ascii=False)


def _attempts(
    db: sqlite3.Connection, run_ids: Collection[str]
) -> dict[str, tuple[str | None, str]]:
    """By run: where its newest attempt went on from, and all of them as JSON with commas."""
    query = "SELECT run_id, resumed_from, item FROM attempts"
    if few := len(run_ids) <= 100:
        query += f" WHERE run_id IN ({_marks(run_ids)})"
    attempts: dict[str, tuple[str | None, str]] = {}
    for run, origin, item in db.execute(
        f"{query} ORDER BY run_id, attempt", [*run_ids] if few else []
    ):
        items = f"{attempts[run][1]},{item}" if run in attempts else item
        attempts[run] = origin, items
    return attempts


def checkpoints(
    db: sqlite3.Connection,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    run_id: str | None = None,
    name: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[str]:
    """One JSON object a checkpoint, newest first."""
    equal = {"model_name": model_name, "dataset_name": dataset_name}
    where, bound = _where(equal | {"run_id": run_id, "name": name})
    rows = db.execute(
        f"SELECT item FROM checkpoints WHERE {where}"
        " ORDER BY created_at DESC, global_step DESC, run_id DESC, name DESC LIMIT ? OFFSET ?",
        [*bound, -1 if limit is None else limit, offset],
    )
    return [item for (item,) in rows]


def _where(equal: dict[str, str | None]) -> tuple[str, list[str]]:
    wanted = {name: value for name, value in equal.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in wanted) or "1", list(wanted.values())


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))
