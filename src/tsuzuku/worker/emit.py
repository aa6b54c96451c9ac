"""What a worker says: events go to the store, the run's journal and TensorBoard.

The training only appends to a queue. A thread writes a few times a second, several rows at once,
so that a slow disk is not in the step loop's way.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Checkpoint, Event, EventType, jsonable, metrics_of
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir

INTERVAL = 0.2
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
        self._queue: deque[Event | Checkpoint | str] = deque()
        self._events: list[Event] = []
        self._index: list[Checkpoint | str] = []
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._boards = Scalars(run.logs)
        self._complained = 0.0
        self._thread = threading.Thread(target=self._work, name="emit", daemon=True)
        self._thread.start()

    def event(self, kind: EventType, payload: dict[str, Any]) -> None:
        self._queue.append(
            Event(type=kind, payload=payload, run_id=self.run.run_id, time=time.time())
        )

    def say(self, message: str, /, level: str = "info", **values: Any) -> None:
        """Log a message by its key in the workspace's language."""
        line = text(message, self.language, values)
        self.event("log", {"level": level, "message": line})

    def status(self, status: str, message: str = "") -> None:
        self.event("status", {"status": status, "message": message})

    def index(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint into the index."""
        self._queue.append(checkpoint)

    def forget(self, name: str) -> None:
        """Take a deleted checkpoint out of the index."""
        self._queue.append(name)

    def purge_from(self, step: int) -> None:
        """Tell TensorBoard that what it has from `step` on is trained again."""
        self._boards.purge_step = step

    def flush(self) -> None:
        """Write everything said so far; raises TsuzukuError if the table cannot be written."""
        self._write()

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
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, Event):
                    self._events.append(item)
                else:
                    self._index.append(item)
            if self._events:
                durable = any(e.type in DURABLE for e in self._events)
                numbered = self.store.append(self._events, durable=durable)
                original, self._events = self._events, []
                self._keep(numbered, original)
            while self._index:
                item = self._index[0]
                if isinstance(item, Checkpoint):
                    self.store.put_checkpoint(item)
                else:
                    self.store.drop_checkpoint(self.run.run_id, item)
                del self._index[0]

    def _keep(self, numbered: list[Event], original: list[Event]) -> None:
        """The journal, from which the table can be made again, and the event files."""
        lines = [
            json.dumps(
                {**event.model_dump(), "payload": jsonable(event.payload)}, ensure_ascii=False
            )
            for event in numbered
        ]
        try:
            with self.run.journal.open("a", encoding="utf-8") as journal:
                journal.write("\n".join(lines) + "\n")
            self._boards.write(original)
        except OSError as error:
            print(f"{self.run.journal} could not be written: {error}", file=sys.stderr)

    def _thin_out(self) -> None:
        with self._writing:
            if len(self._events) > BACKLOG:
                self._events = [e for e in self._events if e.type != "progress"]


class Scalars:
    """TensorBoard event files: one record an event, with all its metrics."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self.purge_step: int | None = None

    def write(self, events: list[Event]) -> None:
        measured = [(e, *metrics_of(e)) for e in events]
        measured = [(e, step, values) for e, step, values in measured if values]
        if not measured:
            return
        from tensorboard.compat.proto.event_pb2 import Event as Record, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = self._open()
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                record = Record(wall_time=time.time(), step=self.purge_step, session_log=start)
                self._writer.write(record.SerializeToString())
        for event, step, values in measured:
            summary = Summary(
                value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            )
            record = Record(wall_time=event.time, step=step, summary=summary)
            self._writer.write(record.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        import os
        import socket

        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.summary.writer.record_writer import RecordWriter

        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.0"
        writer: Any = RecordWriter((self._folder / name).open("wb"))
        writer.write(
            Record(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
        )
        return writer
