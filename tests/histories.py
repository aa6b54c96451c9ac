"""Histories of stops, kills and branches, with a plain account of what was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tsuzuku.core.schemas import Attempt, Checkpoint, Event, EventType, Run
from tsuzuku.core.store import Store

EPOCH = 20
"""Steps after which a run is validated."""
_SECONDS = count()

Points = dict[int, float]


@dataclass
class Trained:
    """What one run has lived through, by plain bookkeeping."""

    run_id: str
    value: float
    """Stands for its settings: another run's numbers are others."""
    parent: tuple[str, int] | None = None
    ancestors: tuple[tuple[Trained, int], ...] = ()
    """Those that it descends from, oldest first, each with the step at which it was left."""
    inherited: dict[str, Points] = field(default_factory=dict)
    """What had been trained along the chain when it branched."""
    own: dict[str, Points] = field(default_factory=lambda: {"loss": {}, "val_loss": {}})
    saved: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    attempts: int = 0

    def whole(self, key: str) -> Points:
        return self.inherited.get(key, {}) | self.own[key]


class World:
    """Plays workers: every change of the store is one that a worker makes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: list[Trained] = [self.new(None)]

    def new(self, origin: str | None, **known: Any) -> Trained:
        number = next(_SECONDS)
        run_id = f"2026-11-21_19-20-{number % 60:02}-{number + 2}"
        self.store.put_run(
            Run(run_id=run_id, model_name="m", dataset_name="d", status="starting",
                created_at=number, updated_at=number, parent=origin)
        )  # fmt: skip
        return Trained(run_id, value=number % 97 + 1.0, **known)

    def attempt(self, run: Trained, steps: int, every: int, lost: int, interval: int) -> None:
        """Train on from the newest checkpoint. `lost` > 0: it is killed before it has told of its
        last steps; else it stops and saves."""
        run.attempts += 1
        start = run.saved[-1] if run.saved else (run.parent[1] if run.parent else 0)
        source = run.run_id if run.saved else (run.parent[0] if run.parent else "")
        origin = f"{source}/{start}.pt" if source else None
        one = Attempt(
            run_id=run.run_id, attempt=run.attempts, pid=1, hostname="h",
            started_at=float(run.attempts), status="running", resumed_from=origin,
        )  # fmt: skip
        self.store.put_attempt(one)
        if lost > steps:  # it died before it had loaded anything
            return
        self.store.put_attempt(one.model_copy(update={"start_step": start}))
        if origin:
            run.starts.append(start)
        waiting: list[Event] = []
        for step in range(start + 1, start + steps + 1):
            if step % interval == 0:
                waiting.append(self.told(run, "progress", "loss", step))
            if step % EPOCH == 0:
                waiting.append(self.told(run, "validation_result", "val_loss", step))
            if step % every == 0 or (not lost and step == start + steps):
                self.write(run, waiting)  # before a checkpoint everything is on the disk
                waiting = []
                self.save(run, step)
        self.write(run, [e for e in waiting if e.payload["global_step"] <= start + steps - lost])
        status = "crashed" if lost else "stopped"
        self.store.append(
            [Event(type="status", payload={"status": status}, run_id=run.run_id, time=1e6)]
        )

    def told(self, run: Trained, kind: EventType, key: str, step: int) -> Event:
        value = run.value * math.sin(step * run.value) + (key == "val_loss")
        payload = {"epoch": step // EPOCH, "global_step": step, key: value}
        return Event(type=kind, payload=payload, run_id=run.run_id, time=float(step))

    def write(self, run: Trained, events: list[Event]) -> None:
        self.store.append(events)
        for event in events:
            for key in run.own.keys() & event.payload.keys():
                run.own[key][event.payload["global_step"]] = event.payload[key]

    def save(self, run: Trained, step: int) -> None:
        self.store.put_checkpoint(
            Checkpoint(name=f"{step}.pt", run_id=run.run_id, model_name="m", dataset_name="d",
                       epoch=step // EPOCH, global_step=step, path="p", size=1, sha256="x",
                       created_at=float(step), metrics={})
        )  # fmt: skip
        if step not in run.saved:
            run.saved.append(step)

    def branch(self, run: Trained, which: int) -> Trained | None:
        """A new run from one of its checkpoints."""
        if not run.saved:
            return None
        at = run.saved[which % len(run.saved)]
        inherited = {k: {s: v for s, v in run.whole(k).items() if s <= at} for k in run.own}
        child = self.new(
            f"{run.run_id}/{at}.pt",
            parent=(run.run_id, at),
            ancestors=(*run.ancestors, (run, at)),
            inherited=inherited,
        )
        self.runs.append(child)
        return child

    def delete(self, run: Trained, which: int) -> None:
        """Retention takes a checkpoint, or the newest turns out to be damaged."""
        begun = {other.parent for other in self.runs if not other.starts}
        left = [step for step in run.saved if (run.run_id, step) not in begun]
        if left:  # a branch that has never loaded its checkpoint needs it
            gone = left[which % len(left)]
            run.saved.remove(gone)
            self.store.drop_checkpoint(run.run_id, f"{gone}.pt")
