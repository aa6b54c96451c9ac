"""The process that keeps a model warm: inference, samples of data sets."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from itertools import count
from typing import Any

from tsuzuku.core.asking import as_error, workspace_words
from tsuzuku.core.ending import cause
from tsuzuku.core.errors import Busy, WrongInput
from tsuzuku.core.launch import worker_command, worker_environment
from tsuzuku.core.workspace import Workspace

PATIENCE = 300.0
"""Seconds that an answer may take; loading a large data set is the longest."""

WAITING = 16
"""Requests that may wait for their turn; more would leave the server no thread for others."""


class Desk:
    """Answers one request at a time; its process ends when it is idle, or when memory is needed.

    All methods may be called from any thread.
    """

    def __init__(self, workspace: Workspace, idle: float) -> None:
        self.workspace = workspace
        self.idle = idle
        self._turn = threading.Lock()
        self._seats = threading.Semaphore(WAITING)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._used_at = time.monotonic()
        self.open_paths: list[str] = []
        """Checkpoints that were used last and may be loaded."""

    def ask(self, do: str, patience: float = PATIENCE, **request: Any) -> dict[str, Any]:
        """The answer to a request of the worker command `desk`.

        Raises WrongInput with what is wrong, as the worker says it, and where its process has
        died or taken more than `patience` seconds; Busy when too many are waiting.
        """
        if not self._seats.acquire(blocking=False):
            raise Busy(
                f"{WAITING} others are waiting for an answer of a model already.",
                "Try again in a moment.",
            )
        try:
            with self._turn:
                return self._ask({"id": next(self._numbers), "do": do, **request}, patience)
        finally:
            self._used_at = time.monotonic()
            self._seats.release()

    def predict(self, run_id: str, request: dict[str, Any]) -> dict[str, Any]:
        """What a `checkpoint` or an `export` of a run makes of a `file` or a `sample`."""
        return self.ask("predict", PATIENCE, run_id=run_id, **request)

    def close(self, wait: float = 30.0) -> None:
        """End the process, once it has answered what it was asked, or after `wait` seconds."""
        answered = self._turn.acquire(timeout=wait)
        try:
            self._end()
        finally:
            if answered:
                self._turn.release()

    def rest(self) -> None:
        """End the process if it has been idle for long enough."""
        if self._process is None or time.monotonic() - self._used_at < self.idle:
            return
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has died, which the answer will tell
            process.stdin.write(json.dumps(request, allow_nan=False).encode() + b"\n")
            process.stdin.flush()
        until = time.monotonic() + patience
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self._end()
                raise WrongInput(
                    f"The model took more than {patience:g} seconds to answer and was ended.",
                    code="inference_timeout",
                ) from None
            if answer is None:
                code = process.wait()
                self._end()
                raise WrongInput(
                    f"The process that runs the model ended before it answered{cause(code)}.",
                    "Out of memory, or an error in the plug-in; the server's log has its output.",
                    code="inference_failed",
                )
            if answer.get("id") == request["id"]:
                if answer.get("ok"):
                    return answer
                raise as_error(answer, WrongInput)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        words = workspace_words(self.workspace)
        self._process = subprocess.Popen(
            worker_command(*words, "desk"),
            cwd=self.workspace.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(),
            start_new_session=True,
        )
        self._answers = queue.Queue()
        threading.Thread(
            target=_read, args=(self._process, self._answers), name="desk", daemon=True
        ).start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        self.open_paths = []
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(process: subprocess.Popen[bytes], answers: queue.Queue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            answers.put(json.loads(line))
    answers.put(None)
