"""What a worker says: events go to the store, the run's journal and TensorBoard.

The training only appends to a queue. A thread writes a few times a second, several rows at once,
so that a slow disk is not in the step loop's way.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tsuzuku.core import journal
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Event, EventType
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir
from tsuzuku.worker.scalars import Scalars

INTERVAL = 0.4
"""Seconds between two writes."""

DURABLE = frozenset({"status", "checkpoint", "error"})
"""Events that have to survive a power loss once they are written."""

BACKLOG = 200_000
"""Events that are kept while the table cannot be written; beyond that progress is dropped."""


class Emitter:
    """A run's voice. Safe to call from any thread; nothing said is lost while the process lives."""

    def __init__(self, store: Store, run: RunDir, language: Language) -> None:
        self.store = store
        self.run = run
        self.language: Language = language
        self._queue: deque[Event | Callable[[Store], object]] = deque()
        self._events: list[Event] = []
        self._changes: list[Callable[[Store], object]] = []
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._boards = Scalars(run.logs)
        self._complained = 0.0
        self._journal_began = False
        self._thread = threading.Thread(target=self._work, name="emit", daemon=True)
        self._thread.start()

    def event(self, kind: EventType, payload: dict[str, Any], *, at: float | None = None) -> None:
        """Tell what happened just now, or `at` another time in seconds since the epoch."""
        when = time.time() if at is None else at
        self._queue.append(Event(type=kind, payload=payload, run_id=self.run.run_id, time=when))

    def say(self, message: str, /, level: str = "info", **values: Any) -> None:
        """Log a message by its key in the workspace's language."""
        line = text(message, self.language, values)
        self.event("log", {"level": level, "message": line})

    def status(self, status: str, message: str = "") -> None:
        self.event("status", {"status": status, "message": message})

    def later(self, change: Callable[[Store], object]) -> None:
        """Have the store changed after the events so far, in the thread that may wait for it."""
        self._queue.append(change)

    def forget(self, name: str) -> None:
        """Take a checkpoint that is gone out of the index."""
        self.later(lambda store: store.drop_checkpoint(self.run.run_id, name))

    def purge_from(self, step: int) -> None:
        """Tell TensorBoard that what it has from `step` on is trained again."""
        self._boards.purge_step = step

    def flush(self) -> None:
        """Have everything said so far on the disk; raises TsuzukuError if that cannot be."""
        with self._writing:
            self._write_now(durable=True)
            with contextlib.suppress(OSError), self.run.journal.open("ab") as file:
                os.fsync(file.fileno())

    def close(self, patience: float = 10.0) -> None:
        """Write what is left, trying for `patience` seconds, and stop."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        until = time.monotonic() + patience
        while True:
            try:
                self._write()
                break
            except TsuzukuError as error:
                if time.monotonic() > until:
                    print(f"{len(self._events)} events were lost: {error}", file=sys.stderr)
                    break
                time.sleep(0.2)
        self._boards.close()

    def _work(self) -> None:
        while not self._closed:
            self._wake.wait(INTERVAL)
            try:
                self._write()
            except TsuzukuError as error:
                # kept in the queue and tried again: the disk may be full for a while
                if time.monotonic() - self._complained > 60:
                    self._complained = time.monotonic()
                    print(f"events wait to be written: {error}", file=sys.stderr)
                self._thin_out()

    def _write(self) -> None:
        with self._writing:
            self._write_now()

    def _write_now(self, *, durable: bool = False) -> None:
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, Event):
                self._events.append(item)
            else:
                self._changes.append(item)
        if self._events or durable:
            durable = durable or any(e.type in DURABLE for e in self._events)
            numbered = self.store.append(self._events, durable=durable)
            original, self._events = self._events, []
            self._keep(numbered, original)
        while self._changes:
            self._changes[0](self.store)
            del self._changes[0]

    def _keep(self, numbered: list[Event], original: list[Event]) -> None:
        """The journal, from which the table can be made again, and the event files."""
        if not original:
            return
        try:
            journal.write(self.run, numbered, mend=not self._journal_began)
            self._journal_began = True
            self._boards.write(original)
        except OSError as error:
            print(f"{self.run.journal} could not be written: {error}", file=sys.stderr)

    def _thin_out(self) -> None:
        with self._writing:
            if len(self._events) > BACKLOG:
                self._events = [e for e in self._events if e.type != "progress"]
