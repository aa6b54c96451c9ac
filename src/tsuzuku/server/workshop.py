"""Making data sets: a worker does it while the request waits; events tell how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from tsuzuku.core.asking import ask_worker
from tsuzuku.core.downloadable import MADE, Making
from tsuzuku.core.errors import Busy, TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Event, EventType
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

log = logging.getLogger("tsuzuku.server")

INTERVAL = 0.5
"""Seconds from one report to the next."""


class Workshop:
    """Makes each data set once at a time; may be used from any thread."""

    def __init__(self, workspace: Workspace, store: Store, language: Language) -> None:
        self.workspace = workspace
        self.store = store
        self.language: Language = language
        self._lock = threading.Lock()
        self._running: set[str] = set()

    def make(self, making: Making) -> str:
        """Where it is, below the workspace.

        `log` events without a run tell how it goes, with `dataset`, `made` and `total`; the last
        is one with `done`, or an `error`. Raises what the worker does, and Busy while the same is
        being made.
        """
        name = making.name
        place = MADE.get(name, "")
        words = making.words(self.workspace.root / place)
        with self._alone(name):
            next_report = 0.0
            try:
                for answer in ask_worker(self.workspace, *words):
                    if "total" in answer and time.monotonic() >= next_report:
                        next_report = time.monotonic() + INTERVAL
                        self._log("data_making", name, made=answer["done"], total=answer["total"])
            except TsuzukuError as error:
                self._say("error", message=str(error), code=error.code, dataset=name)
                raise
            self._log("data_made", name, path=place, done=True)
        return place

    def running(self) -> list[str]:
        """What is being made."""
        return sorted(self._running)

    @contextmanager
    def _alone(self, name: str) -> Generator[None]:
        with self._lock:
            if name in self._running:
                raise Busy(f"{name} is being made already.", code="already_running")
            self._running.add(name)
        try:
            yield
        finally:
            self._running.discard(name)

    def _log(self, key: str, name: str, **values: object) -> None:
        message = text(key, self.language, {"name": name, **values})
        self._say("log", level="info", message=message, dataset=name, **values)

    def _say(self, kind: EventType, **payload: object) -> None:
        try:
            self.store.append([Event(type=kind, payload=payload, time=time.time())])
        except TsuzukuError as error:  # no reason to give up what is half made
            log.warning("%s (not recorded: %s)", payload["message"], error)
