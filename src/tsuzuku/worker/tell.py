"""A download that tells the workspace's store how it goes, whoever still listens."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Event, EventType
from tsuzuku.core.store import Store
from tsuzuku.core.trees import Tree
from tsuzuku.core.workspace import Workspace
from tsuzuku.worker.fetch import FetchProgress, fetch

INTERVAL = 0.5
"""Seconds from one report to the next."""

SAYINGS = {
    "downloading": "file_downloading",
    "unpacking": "file_unpacking",
    "complete": "file_complete",
    "already there": "file_there",
}
"""From what `fetch` reports to the keys of messages; anything else is what a mirror answered."""


class Stopped(BaseException):
    """A signal asked the download to end; not an Exception, which a retry could swallow."""

    def __init__(self, number: int) -> None:
        self.number = number


def fetch_and_tell(workspace: Workspace, name: str, spec: Mapping[str, Any], target: Path) -> int:
    """Download a data set with its progress as events; the exit code.

    `log` events without a run, with `dataset`, `file`, `done_bytes` and `total_bytes`. The last
    event is a `log` with `done`, or an `error`; after a SIGTERM or SIGINT its code is `stopped`,
    and what has come so far stays for the next download.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with Store(workspace.db) as store:
        voice = _Voice(store, name, "en")
        try:
            voice.language = workspace.config().settings.server.language
            fetch(name, spec, target, voice.report)
            voice.done(target)
        except TsuzukuError as error:
            voice.failed(str(error), error.code)
            return error.exit_code
        except Stopped as stop:
            voice.failed(text("download_stopped", voice.language, {"name": name}), "stopped")
            return 128 + stop.number
    return 0


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, signal.SIG_IGN)  # its last words are short, and it ends after them
    raise Stopped(number)


class _Voice:
    """Turns the progress of the files of one data set into events, a few a second."""

    def __init__(self, store: Store, name: str, language: Language) -> None:
        self.store = store
        self.name = name
        self.language: Language = language
        self._sizes: dict[str, int] = {}
        self._last: tuple[str, str] = ("", "")
        self._next = 0.0

    def report(self, progress: FetchProgress) -> None:
        self._sizes[progress.file] = progress.total_bytes
        now = time.monotonic()
        what = (progress.file, progress.message)
        # what happens for the first time is told soon, its going on in intervals
        if now < self._next and (what == self._last or progress.message == "complete"):
            return
        self._next, self._last = now + INTERVAL, what
        values: Tree = {
            "name": self.name,
            "file": progress.file,
            "percent": progress.done_bytes * 100 // progress.total_bytes,
            "answer": progress.message,
        }
        key = SAYINGS.get(progress.message, "mirror_failed")
        self._log(
            text(key, self.language, values),
            "warning" if key == "mirror_failed" else "info",
            file=progress.file,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
        )

    def done(self, target: Path) -> None:
        size = sum(self._sizes.values())
        message = text("download_complete", self.language, {"name": self.name, "path": target})
        self._log(message, "info", file=None, done_bytes=size, total_bytes=size, done=True)

    def failed(self, message: str, code: str) -> None:
        self._say("error", {"message": message, "code": code, "dataset": self.name})

    def _log(self, message: str, level: str, **payload: Any) -> None:
        self._say("log", {"level": level, "message": message, "dataset": self.name, **payload})

    def _say(self, kind: EventType, payload: Tree) -> None:
        final = kind == "error" or "done" in payload
        try:
            self.store.append([Event(type=kind, payload=payload, time=time.time())], durable=final)
        except TsuzukuError as error:
            # a table that cannot be written now is no reason to give up gigabytes
            print(f"{payload['message']} (not recorded: {error})", file=sys.stderr)
