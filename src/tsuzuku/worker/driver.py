"""The driver of a training with ranks: starts them, hears them, stops them, and judges the end."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tsuzuku import __version__
from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.proofs import installed_torch
from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.trees import Tree
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically
from tsuzuku.worker import leash
from tsuzuku.worker.emit import Emitter
from tsuzuku.worker.keeping import Keeping
from tsuzuku.worker.leash import Leash
from tsuzuku.worker.stop import Stop

GRACE = 5.0
"""Seconds that the others get to say how they fare once a rank has failed."""

PLACED = 1.0
"""Seconds between two notes on where the ranks are and how they fare."""


class Engine(Protocol):
    """What starts ranks and knows when they have ended: torchrun, or Ray."""

    host: str
    """The address under which the ranks reach this process."""
    ranks: int
    notes: list[tuple[str, str, dict[str, Any]]]
    """What is to be said before the ranks start: messages, their levels and values."""

    def start(self, environment: dict[str, str]) -> None: ...
    def ended(self) -> str | None:
        """None while ranks may be alive; then why they are not, empty if all went well."""
        ...

    def kill(self) -> None: ...


@dataclass
class Driver:
    """Drives one attempt."""

    workspace: Workspace
    run: RunDir
    requested: RunSettings
    emit: Emitter
    keeping: Keeping
    stop: Stop
    attempt: Attempt
    began: Callable[[Attempt], None]
    engine: Engine
    _ranks: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    _outcomes: dict[int, str] = field(default_factory=dict[int, str])
    _failures: list[tuple[int, bool, TsuzukuError]] = field(
        default_factory=list[tuple[int, bool, TsuzukuError]]
    )
    _lost: list[int] = field(default_factory=list[int])
    _failed_at: float = 0.0
    _placed_at: float = 0.0

    def drive(self) -> Literal["completed", "stopped"]:
        """Train with ranks to the end; raises what ended it otherwise."""
        self.leash = Leash(self.engine.host)
        for message, level, values in self.engine.notes:
            self.emit.say(message, level, **values)
        probe = self.run.path / f".probe-{self.leash.key[:8]}"
        for left in self.run.path.glob(".probe-*"):  # of a driver that was killed
            left.unlink(missing_ok=True)
        probe.touch()
        told = False
        try:
            task = {"workspace": str(self.workspace.root), "outputs": str(self.workspace.outputs)}
            task |= {"run": self.run.run_id, "probe": probe.name}
            self.engine.start(self.leash.environment(task))
            while (ended := self.engine.ended()) is None or self.leash.held:
                self._hear(0.1)
                if self.stop.requested() and not told:
                    told = True
                    self.leash.tell({"do": "stop"})
                if self._failed_at and time.monotonic() - self._failed_at > GRACE:
                    break
                self._note_places()
            while self._hear(0):
                pass
        finally:
            self.leash.let_go()
            self.engine.kill()
            probe.unlink(missing_ok=True)
            self._note_places(over=True)
        return self._judged(ended or "")

    def _judged(self, why: str) -> Literal["completed", "stopped"]:
        own = [error for _, others, error in self._failures if not others]
        if own:
            raise own[0]
        if self._lost:
            raise TsuzukuError(
                " ".join(f"{self._named(rank)} was lost." for rank in self._lost),
                "The run goes on from its last checkpoint when it is resumed.",
                code="rank_lost",
            )
        if self._failures:
            raise self._failures[0][2]
        outcome = self._outcomes.get(0)
        if outcome is None or len(self._outcomes) < self.engine.ranks:
            raise TsuzukuError(why or "The ranks ended without a word.", code="ranks_failed")
        return "completed" if outcome == "completed" else "stopped"

    def _named(self, rank: int) -> str:
        known = self._ranks.get(rank, {})
        return f"Rank {rank} (process {known.get('pid')} on {known.get('host')})"

    def _hear(self, seconds: float) -> bool:
        heard = self.leash.next(seconds)
        if heard is None:
            return False
        rank, said = heard
        what = str(said.get("do"))
        handle = getattr(self, f"_on_{what}", None)
        if handle is None:
            return True
        answer: Tree = {"id": said.get("id", 0)}
        try:
            handle(rank, said)
        except (TsuzukuError, OSError) as error:
            known = error if isinstance(error, TsuzukuError) else TsuzukuError(str(error))
            answer["error"] = leash.as_words(known)
        if "id" in said:
            self.leash.answer(rank, answer)
        return True

    # What ranks say

    def _on_hello(self, rank: int, said: Tree) -> None:
        self._ranks[rank] = {"rank": rank, "host": said["host"], "pid": said["pid"]}
        mine = {
            "tsuzuku": __version__,
            "torch": installed_torch(),
            "Python": platform.python_version(),
        }
        for name, theirs in said.get("versions", {}).items():
            if mine.get(name) not in (None, theirs):
                self._fail(
                    rank,
                    TsuzukuError(
                        f"The machine {said['host']} has {name} {theirs}, and this one has "
                        f"{mine[name]}.",
                        "Install the same versions on every machine.",
                        code="other_versions",
                    ),
                )
                self._failed_at = -math.inf  # at once: nothing is to be trained so

    def _on_event(self, rank: int, said: Tree) -> None:
        self.emit.event(said["type"], dict(said["payload"]), at=float(said["time"]))

    def _on_purge(self, rank: int, said: Tree) -> None:
        self.emit.purge_from(int(said["step"]))

    def _on_forget(self, rank: int, said: Tree) -> None:
        self.emit.forget(str(said["name"]))

    def _on_flush(self, rank: int, said: Tree) -> None:
        self.emit.flush()

    def _on_began(self, rank: int, said: Tree) -> None:
        self.attempt.start_step = int(said["start_step"])
        self.attempt.resumed_from = said["resumed_from"]
        self.began(self.attempt)

    def _on_saved(self, rank: int, said: Tree) -> None:
        file = checkpoint_files.read(self.run.checkpoints / str(said["name"]))
        self.keeping.saved(file)

    def _on_mend(self, rank: int, said: Tree) -> None:
        self.keeping.mend(checkpoint_files.read(self.run.checkpoints / str(said["name"])))

    def _on_gathered(self, rank: int, said: Tree) -> None:
        self.keeping.gathered(checkpoint_files.read(self.run.checkpoints / str(said["name"])))

    def _on_beat(self, rank: int, said: Tree) -> None:
        own = {k: v for k, v in said.items() if k != "do"}
        self._ranks.setdefault(rank, {"rank": rank}).update(own)

    def _on_done(self, rank: int, said: Tree) -> None:
        self._outcomes[rank] = str(said["outcome"])

    def _on_failed(self, rank: int, said: Tree) -> None:
        self._fail(rank, leash.raised(said["error"]), others=bool(said.get("others")))

    def _on_gone(self, rank: int, said: Tree) -> None:
        if rank in self._outcomes or any(failed == rank for failed, _, _ in self._failures):
            return
        self._lost.append(rank)
        self._failed_at = self._failed_at or time.monotonic()

    def _fail(self, rank: int, error: TsuzukuError, *, others: bool = False) -> None:
        self._failures.append((rank, others, error))
        self._failed_at = self._failed_at or time.monotonic()

    def _note_places(self, *, over: bool = False) -> None:
        """Put down where the ranks are and how they fare, for the page."""
        if not over and time.monotonic() - self._placed_at < PLACED:
            return
        self._placed_at = time.monotonic()
        ranks = [self._ranks[rank] for rank in sorted(self._ranks)]
        note = {
            "attempt": self.attempt.attempt,
            "time": time.time(),
            "launcher": self.requested.training.distributed.launcher,
            "alive": [] if over else self.leash.held,
            "ranks": ranks,
        }
        with contextlib.suppress(OSError):
            write_atomically(self.run.places, json.dumps(note), sync=False)
