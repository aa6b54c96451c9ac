"""One attempt: everything between a worker's start and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import time

from tsuzuku.core import interruption
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.finding import tip
from tsuzuku.core.lock import RunLock
from tsuzuku.core.schemas import Attempt, Status
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically
from tsuzuku.worker.emit import Emitter
from tsuzuku.worker.keeping import Keeping
from tsuzuku.worker.stop import Stop


def train(workspace: Workspace, run_id: str, stop: Stop, lock: RunLock | None = None) -> int:
    """Work on a run until it is completed, or asked to stop; the exit code.

    `lock` is the run's, if it is held already; it is released at the end in any case.

    0 completed · 1 failed · 2 wrong input · 128 + n stopped by signal n after saving.
    """
    run = workspace.run_dir(run_id)
    if lock is None:
        lock = RunLock(run.lock)
        lock.acquire()
    requested = RunSettings.model_validate(run.read_identity()["requested"])
    with Store(workspace.db) as store:
        emit = Emitter(store, run, requested.language)
        attempt = _begin(store, run)
        stop.when_asked(lambda: emit.status("stopping"))
        ended: Status = "failed"
        code = 1
        try:
            keeping = Keeping(run, requested, store, emit)

            def began(attempt: Attempt) -> None:
                store.put_attempt(attempt)
                _note_attempt(run, attempt)

            if requested.training.distributed.launcher == "local":
                from tsuzuku.worker.session import Session

                ended = Session(
                    workspace, run, emit, keeping, stop.requested, attempt, began, requested
                ).train()
            else:
                # the ranks load torch, this process need not
                from tsuzuku.worker.driver import Driver
                from tsuzuku.worker.engines import engine_for

                ended = Driver(
                    *(workspace, run, requested, emit, keeping, stop, attempt, began),
                    engine_for(workspace, run, requested, attempt),
                ).drive()
            code = 128 + stop.number if ended == "stopped" else 0
            emit.say(ended)
            emit.status(ended)
        except Exception as error:
            from tsuzuku.worker.failures import explained, print_traceback

            failure = explained(error, run)
            code = failure.exit_code
            emit.event("error", {"message": str(failure), "code": failure.code})
            emit.status("failed", str(failure))
            if not isinstance(error, TsuzukuError):
                print_traceback(error)
        finally:
            emit.close()
            under = interruption.interrupted_under(run, stop.number) if ended == "stopped" else ""
            _end(store, run, attempt, ended, under)
            lock.release()
    return code


def _begin(store: Store, run: RunDir) -> Attempt:
    number = len(store.attempts(run.run_id)) + 1
    attempt = Attempt(
        run_id=run.run_id,
        attempt=number,
        pid=os.getpid(),
        hostname=os.uname().nodename,
        started_at=time.time(),
        status="running",
        resumed_from=_origin(run),
    )
    interruption.begin(run)
    store.put_attempt(attempt)
    store.update_run(run.run_id, attempt=number)
    _note_attempt(run, attempt)
    return attempt


def _origin(run: RunDir) -> str | None:
    """Where the attempt most likely goes on from; it is known when the checkpoint is loaded."""
    newest = tip(run)
    return f"{run.run_id}/{newest.name}" if newest else run.read_identity().get("parent")


def _end(store: Store, run: RunDir, attempt: Attempt, ended: Status, under: str) -> None:
    attempt.status, attempt.ended_at = ended, time.time()
    with contextlib.suppress(TsuzukuError, OSError):
        # on a full disk the lock still tells that it ended
        store.end_attempt(run.run_id, attempt.attempt, ended, attempt.ended_at)
        _note_attempt(run, attempt, under)


def _note_attempt(run: RunDir, attempt: Attempt, interrupted_under: str = "") -> None:
    """Keep the attempt in the run's folder too, from which the database can be made again."""
    identity = run.read_identity()
    others = [a for a in identity.get("attempts", []) if a["attempt"] != attempt.attempt]
    identity["attempts"] = [*others, attempt.model_dump()]
    identity["interrupted_under"] = interrupted_under
    write_atomically(run.identity, json.dumps(identity, ensure_ascii=False, indent=1))
