"""TensorBoard event files: one record an event, with all its metrics."""

from __future__ import annotations

import os
import socket
import time
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from tsuzuku.core.projection import metrics_of
from tsuzuku.core.schemas import Event


class Scalars:
    """Appends metrics to an event file of this attempt, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._event: Any = None
        self._summary: Any = None
        self.purge_step: int | None = None
        """TensorBoard is told to forget what earlier attempts reported from this step on."""

    def write(self, events: list[Event]) -> None:
        """Append what `events` measured; raises OSError if the file cannot be written."""
        measured = [(event, *metrics_of(event)) for event in events]
        measured = [(event, step, values) for event, step, values in measured if values]
        if not measured:
            return
        writer = self._writer = self._writer or self._open()
        for event, step, values in measured:
            value = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            record = self._event(
                wall_time=event.time, step=step, summary=self._summary(value=value)
            )
            writer.write(record.SerializeToString())
        writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        # protobuf's generated modules have no types, and importing them takes a while
        records = import_module("tensorboard.compat.proto.event_pb2")
        self._event = records.Event
        self._summary = import_module("tensorboard.compat.proto.summary_pb2").Summary
        module: Any = import_module("tensorboard.summary.writer.record_writer")
        writer: Any = module.RecordWriter(self._new_file())
        head = [records.Event(wall_time=time.time(), file_version="brain.Event:2")]
        if self.purge_step is not None:
            start = records.SessionLog(status=records.SessionLog.START)
            head.append(
                records.Event(wall_time=time.time(), step=self.purge_step, session_log=start)
            )
        for record in head:
            writer.write(record.SerializeToString())
        return writer

    def _new_file(self) -> BinaryIO:
        """An event file that no other attempt has, even one of the same second and process id."""
        stem = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        for number in count():
            try:
                return (self._folder / f"{stem}.{number}").open("xb")
            except FileExistsError:
                continue
        raise AssertionError("count() does not end")
