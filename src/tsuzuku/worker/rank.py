"""One of several processes that train a run together, as torchrun or Ray starts it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from tsuzuku import __version__
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import NotFound, TsuzukuError
from tsuzuku.core.messages import Language, text
from tsuzuku.core.schemas import Attempt, jsonable
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training import distributed
from tsuzuku.training.distributed import Ranks
from tsuzuku.worker import leash
from tsuzuku.worker.failures import explained, print_traceback
from tsuzuku.worker.leash import Line
from tsuzuku.worker.session import Session
from tsuzuku.worker.shared_paths import require_data, run_not_seen

BEAT = 1.0
"""Seconds between two words on how a rank is."""


def work() -> int:
    """Train as the rank that the environment describes, until all are done; the exit code."""
    rank = int(os.environ.get("RANK", "0"))
    task = json.loads(os.environ[leash.TASK])
    workspace = Workspace(Path(task["workspace"]), Path(task["outputs"]))
    hello = {
        "rank": rank,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": {
            "tsuzuku": __version__,
            "torch": torch.__version__.split("+")[0],
            "Python": platform.python_version(),
        },
    }
    line = Line(os.environ[leash.ADDRESS], os.environ[leash.KEY], hello, leash.die)
    code = 0
    run: RunDir | None = None
    try:
        run = seen(workspace, task["run"], task["probe"])
        _speak_into(run, rank)
        line.send({"do": "done", "outcome": _train(workspace, run, line, rank)})
    except Exception as error:
        others = distributed.lost_the_others(error)
        failure = explained(error, run)
        line.send({"do": "failed", "others": others, "error": leash.as_words(failure)})
        code = failure.exit_code
        if not isinstance(error, TsuzukuError):
            print_traceback(error)
    line.close()
    with contextlib.suppress(Exception):
        distributed.leave()
    return code


def main() -> int:
    """`work` in a process of its own. Ending is the driver's to say: a machine that is shut down
    sends SIGTERM to everybody, and the driver asks the ranks to save."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return work()


def seen(workspace: Workspace, run_id: str, probe: str) -> RunDir:
    """The run's folder, which has to be the driver's own and may be written to."""
    where = socket.gethostname()
    try:
        run = workspace.run_dir(run_id)
    except NotFound:
        run = None
    if run is None or not (run.path / probe).exists():
        raise run_not_seen(where, workspace)
    if not os.access(run.checkpoints, os.W_OK):
        raise TsuzukuError(
            f"The machine {where} may not write into {run.checkpoints}.", code="path_not_shared"
        )
    return run


def _train(workspace: Workspace, run: RunDir, line: Line, rank: int) -> str:
    requested = RunSettings.model_validate(run.read_identity()["requested"])
    require_data(workspace, requested, socket.gethostname())
    where = requested.training.distributed
    home = Home(line, run, requested.language, silent=rank > 0)
    attempt = Attempt(
        run_id=run.run_id, attempt=0, pid=os.getpid(), hostname=socket.gethostname(),
        started_at=time.time(), status="running",
    )  # fmt: skip
    world = int(os.environ.get("WORLD_SIZE", where.ranks))  # fewer, where a machine was lost
    ranks = Ranks(rank, world)  # alone until they have met, but only the first writes
    session = Session(
        workspace, run, home, home, lambda: line.stop_asked, attempt, home.began, requested, ranks
    )
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(session, line, ended), daemon=True)
    beats.start()
    try:
        return session.train()
    finally:
        ended.set()
        beats.join()


@dataclass(frozen=True)
class Home:
    """A session's voice, and who looks after its checkpoints: the driver, at the other end."""

    line: Line
    run: RunDir
    language: Language
    silent: bool
    """Of several ranks one speaks."""

    def event(self, kind: Any, payload: dict[str, Any]) -> None:
        if not self.silent:
            words = {"do": "event", "type": kind, "payload": jsonable(payload)}
            self.line.send({**words, "time": time.time()})

    def say(self, message: str, /, level: str = "info", **values: Any) -> None:
        line = text(message, self.language, values)
        self.event("log", {"level": level, "message": line})

    def status(self, status: str, message: str = "") -> None:
        self.event("status", {"status": status, "message": message})

    def forget(self, name: str) -> None:
        self._tell({"do": "forget", "name": name})

    def purge_from(self, step: int) -> None:
        self._tell({"do": "purge", "step": step})

    def flush(self) -> None:
        self.line.ask({"do": "flush"})

    def began(self, attempt: Attempt) -> None:
        self._tell(
            {
                "do": "began",
                "start_step": attempt.start_step,
                "resumed_from": attempt.resumed_from,
            }
        )

    def saved(self, file: CheckpointFile) -> None:
        self.line.ask({"do": "saved", "name": file.name})

    def mend(self, newest: CheckpointFile) -> None:
        self.line.ask({"do": "mend", "name": newest.name})

    def gathered(self, file: CheckpointFile) -> None:
        self.line.ask({"do": "gathered", "name": file.name})

    def tidied(self, wanted: Callable[[], bool]) -> None:
        """The driver tidies, while nothing is being saved."""

    def _tell(self, words: dict[str, Any]) -> None:
        if not self.silent:
            self.line.send(words)


def _beat(session: Session, line: Line, ended: threading.Event) -> None:
    """Say every second how this rank is."""
    process = psutil.Process()
    while not ended.wait(BEAT):
        words: dict[str, Any] = {
            "do": "beat",
            "device": str(session.device),
            "memory": process.memory_info().rss,
            **session.ranks.pace.taken(),
        }
        if session.device is not None and session.device.type == "cuda":
            words["device_memory"] = torch.cuda.max_memory_allocated(session.device)
        line.send(words)


def _speak_into(run: RunDir, rank: int) -> None:
    """Let what this process prints, plug-ins and libraries included, go to the rank's own log."""
    run.logs.mkdir(exist_ok=True)
    log = os.open(run.rank_log(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
