"""The last word of a worker that could not say it itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from tsuzuku.core import journal
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.pruning import index_anew
from tsuzuku.core.schemas import Attempt, Event, Status
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir

TAIL_BYTES = 16_384


def last_lines(run: RunDir, count: int = 5) -> str:
    """The end of a run's worker log; empty if there is none."""
    try:
        with run.worker_log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - TAIL_BYTES))
            said = log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(said.strip().splitlines()[-count:])


def cause(code: int | None) -> str:
    """Why a process ended, for a message: ` (signal SIGKILL)`; empty where nobody knows."""
    if code is None:
        return ""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f" (signal {signal.Signals(-code).name})"
    return f" (exit code {code})"


def report_crash(
    store: Store, run: RunDir, language: Language, code: int | None = None
) -> str | None:
    """Write down that a worker ended without a word, with the last lines of its log.

    The message; None if it did say how it ended, or somebody else has written it down already.
    `code` is the process's exit code as `subprocess` gives it, None if it is not known.
    """
    message = text("crashed", language, {"cause": cause(code)})
    return message if report_end(store, run, "crashed", message, last_lines(run)) else None


def report_end(store: Store, run: RunDir, status: Status, message: str, log: str = "") -> bool:
    """End a run that its worker did not end; False if it has ended already."""
    now = time.time()
    events = [
        Event(type="status", payload={"status": status, "message": message},
              run_id=run.run_id, time=now)
    ]  # fmt: skip
    if log:
        payload = {"level": "error", "message": log}
        events.insert(0, Event(type="log", payload=payload, run_id=run.run_id, time=now))
    attempts = store.attempts(run.run_id)
    had_begun = bool(attempts) and attempts[-1].ended_at is None
    if not journal.tell(store, run, events, unless_ended=True):
        return False
    if not had_begun:
        _add_attempt(store, run, len(attempts) + 1, status, now)
    with contextlib.suppress(OSError, TsuzukuError):
        index_anew(run, store)  # what it had saved, but could not put into the index any more
    return True


def _add_attempt(store: Store, run: RunDir, number: int, status: Status, now: float) -> None:
    """Count an attempt that died before it could put itself down."""
    store.put_attempt(
        Attempt(
            run_id=run.run_id,
            attempt=number,
            pid=0,
            hostname=os.uname().nodename,
            started_at=now,
            ended_at=now,
            status=status,
        )
    )
    store.update_run(run.run_id, attempt=number)
