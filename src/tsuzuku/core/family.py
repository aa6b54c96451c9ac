"""Families of runs: which branched from which, where, and what there is to go on from.

A handful of statements whatever the number of runs. Parents that are gone, and circles of parents,
which only edited data has, are shown as what they are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tsuzuku.core.errors import NotFound
from tsuzuku.core.importing import is_import
from tsuzuku.core.lineage_answers import Branch, Lineage, Mark, Relative, Stretch
from tsuzuku.core.schemas import ACTIVE, Attempt, Run
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

_CHOSEN = "run_id IN (SELECT value FROM json_each(?))"


@dataclass
class _Kin:
    """A run as far as its place in a family depends on it."""

    run_id: str
    parent: str | None
    model_name: str
    dataset_name: str
    created_at: float
    children: list[_Kin] = field(default_factory=list["_Kin"])

    @property
    def origin(self) -> str | None:
        """The run that it branched from."""
        return self.parent.rpartition("/")[0] if self.parent is not None else None


class _Saved(NamedTuple):
    """A checkpoint's row."""

    run_id: str
    name: str
    epoch: int
    global_step: int
    is_best: bool
    is_latest: bool
    pinned: bool


@dataclass
class _Records:
    """What is stored of the runs that are shown."""

    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    attempts: dict[str, list[Attempt]] = field(default_factory=dict[str, list[Attempt]])
    checkpoints: dict[str, list[_Saved]] = field(default_factory=dict[str, "list[_Saved]"])
    files: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])


def lineage(
    workspace: Workspace,
    store: Store,
    *,
    run_id: str | None = None,
    model_name: str | None = None,
    dataset_name: str | None = None,
    limit: int | None = None,
) -> Lineage:
    """The families of all runs; of one run its own, whatever else is asked for.

    With a model or a data set, the families in which a run has it, as a whole. At most `limit`
    runs. Raises `NotFound` for an unknown run.
    """
    with store.reading() as db:
        db.execute("BEGIN")  # so that all statements see one state
        try:
            kin = _kin(db)
            if run_id is not None and run_id not in kin:
                raise NotFound(f"There is no run {run_id[:60]!r}.", "`tsuzuku runs` lists them.")
            families = _families(kin)
            if run_id is not None:
                families = [f for f in families if any(one.run_id == run_id for one, _ in f)]
            else:
                families = [f for f in families if _has(f, model_name, dataset_name)]
            shown = [member for family in families for member in family]
            total, shown = len(shown), shown[:limit]
            records = _records(db, [one.run_id for one, _ in shown])
        finally:
            db.execute("ROLLBACK")
    # files are looked at when the database is free again
    relatives = [_relative(workspace, records, kin, one, depth) for one, depth in shown]
    return Lineage(runs=relatives, total=total)


def _kin(db: sqlite3.Connection) -> dict[str, _Kin]:
    """Every run by its id, oldest first, each with its branches."""
    rows = db.execute(
        "SELECT run_id, parent, model_name, dataset_name, created_at FROM runs"
        " ORDER BY created_at, run_id"
    )
    kin = {row[0]: _Kin(*row) for row in rows}
    for one in kin.values():
        if one.origin is not None and one.origin in kin:
            kin[one.origin].children.append(one)
    return kin


def _families(kin: Mapping[str, _Kin]) -> list[list[tuple[_Kin, int]]]:
    """Runs with their depths, each after the one it branched from; the newest family first."""
    families: list[list[tuple[_Kin, int]]] = []
    seen: set[str] = set()
    founders = [one for one in kin.values() if one.origin is None or one.origin not in kin]
    # whoever is in none of their families descends from a circle, which begins with its oldest
    for founder in [*founders, *_circular(kin, founders)]:
        family: list[tuple[_Kin, int]] = []
        waiting = [(founder, 0)]
        while waiting:
            one, depth = waiting.pop()
            if one.run_id not in seen:
                seen.add(one.run_id)
                family.append((one, depth))
                waiting += [(child, depth + 1) for child in reversed(one.children)]
        if family:
            families.append(family)
    return sorted(families, key=lambda f: max(one.created_at for one, _ in f), reverse=True)


def _circular(kin: Mapping[str, _Kin], founders: Iterable[_Kin]) -> Iterator[_Kin]:
    """One run of every circle of parents, the oldest."""
    settled: set[str] = set()
    for start in kin.values():
        path: dict[str, _Kin] = {}
        one: _Kin | None = start
        while one is not None and one.run_id not in settled and one.run_id not in path:
            path[one.run_id] = one
            one = kin.get(one.origin) if one.origin is not None else None
        if one is not None and one.run_id in path:
            ids = list(path)
            circle = [path[name] for name in ids[ids.index(one.run_id) :]]
            yield min(circle, key=lambda k: (k.created_at, k.run_id))
        settled.update(path)


def _has(family: list[tuple[_Kin, int]], model_name: str | None, dataset_name: str | None) -> bool:
    return any(
        model_name in (None, one.model_name) and dataset_name in (None, one.dataset_name)
        for one, _ in family
    )


def _records(db: sqlite3.Connection, ids: list[str]) -> _Records:
    chosen = (json.dumps(ids),)
    records = _Records()
    names = ", ".join(Run.model_fields)
    for row in db.execute(f"SELECT {names} FROM runs WHERE {_CHOSEN}", chosen):
        run = Run.model_validate(dict(zip(Run.model_fields, row, strict=True)))
        records.runs[run.run_id] = run
    names = ", ".join(Attempt.model_fields)
    query = f"SELECT {names} FROM attempts WHERE {_CHOSEN} ORDER BY run_id, attempt"
    for row in db.execute(query, chosen):
        attempt = Attempt.model_validate(dict(zip(Attempt.model_fields, row, strict=True)))
        records.attempts.setdefault(attempt.run_id, []).append(attempt)
    query = (
        f"SELECT {', '.join(_Saved._fields)} FROM checkpoints WHERE {_CHOSEN}"
        " ORDER BY run_id, global_step, epoch, name"
    )
    for row in db.execute(query, chosen):
        saved = _Saved(*row)
        records.checkpoints.setdefault(saved.run_id, []).append(saved)
    return records


def _files(workspace: Workspace, records: _Records, run_id: str) -> frozenset[str]:
    """The names in a run's folder of checkpoints; one look at it tells of all of them."""
    if run_id not in records.files:
        records.files[run_id] = workspace.names_of_checkpoints(run_id)
    return records.files[run_id]


def _relative(
    workspace: Workspace, records: _Records, kin: Mapping[str, _Kin], one: _Kin, depth: int
) -> Relative:
    run = workspace.true_status(records.runs[one.run_id])
    attempts = records.attempts.get(run.run_id, [])
    return Relative(
        run_id=run.run_id,
        model_name=run.model_name,
        dataset_name=run.dataset_name,
        status=run.status,
        created_at=run.created_at,
        epoch=run.epoch,
        total_epochs=run.total_epochs,
        global_step=run.global_step,
        best_metric=run.best_metric,
        depth=depth,
        branch=_branch(workspace, records, kin, one, depth),
        attempts=_stretches(run, attempts),
        checkpoints=[
            Mark(**saved._asdict(), there=saved.name in _files(workspace, records, run.run_id))
            for saved in records.checkpoints.get(run.run_id, [])
        ],
    )


def _branch(
    workspace: Workspace, records: _Records, kin: Mapping[str, _Kin], one: _Kin, depth: int
) -> Branch | None:
    if one.parent is None:
        return None
    origin, _, name = one.parent.rpartition("/")
    if is_import(one.parent):
        return Branch(run_id="", checkpoint=name, state="imported")
    tuning = records.runs[one.run_id].fine_tuning
    known = next((c for c in records.checkpoints.get(origin, []) if c.name == name), None)
    # where the checkpoint is gone, the first attempt that has loaded it noted where that was
    loaded = (a.start_step for a in records.attempts.get(one.run_id, []))
    noted = next((step for step in loaded if step > 0), None)
    if origin not in kin:
        state = "run_deleted"
    elif depth == 0:
        state = "circular"
    else:
        state = "there" if name in _files(workspace, records, origin) else "checkpoint_deleted"
    step = known.global_step if known else noted
    return Branch(run_id=origin, checkpoint=name, global_step=step, fine_tuning=tuning, state=state)


def _stretches(run: Run, attempts: list[Attempt]) -> list[Stretch]:
    found: list[Stretch] = []
    end = run.global_step
    for attempt in reversed(attempts):
        # whoever went on from a checkpoint and has noted no step had not loaded it yet
        own = attempt.resumed_from is None or run.fine_tuning or is_import(run.parent or "")
        loaded = own or attempt.start_step > 0
        start = attempt.start_step if loaded else None
        counts = start is not None and end >= start
        found.append(
            Stretch(
                attempt=attempt.attempt,
                from_step=start,
                to_step=end if counts else None,
                # nobody was left to say so of a run that turns out to have crashed
                status="crashed"
                if run.status == "crashed" and attempt.status in ACTIVE
                else attempt.status,
                resumed_from=attempt.resumed_from,
            )
        )
        if start is not None:
            end = start
    return found[::-1]
