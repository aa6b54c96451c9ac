"""Taking turns: contenders in processes of their own, of which only one runs at a time.

What else goes on on a machine slows all of them alike if each gets half a second in turn. Between
its turns a contender is stopped as a whole (SIGSTOP), so that what it leaves to its threads is
done in its own time. A contender calls `step` before each step, and measures its turns itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import BinaryIO, Self


class Pace:
    """In the contender: counts steps, and waits for the next turn when one is over."""

    def __init__(self) -> None:
        self.left = -1
        self.began = 0.0
        self.answers: BinaryIO | None = None

    def take_part(self, warm_up: int) -> None:
        """Begin to wait for turns after `warm_up` steps; stdout is the organizer's from now on."""
        self.left = warm_up
        self.answers = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)

    def step(self) -> None:
        if self.left == 0:
            self._hand_over()
        self.left -= 1

    def _hand_over(self) -> None:
        took = time.perf_counter() - self.began
        if self.answers is None:
            return
        self.answers.write(f"{took}\n".encode())
        steps = sys.stdin.buffer.readline()
        if not steps:
            os._exit(0)
        self.left = int(steps)
        self.began = time.perf_counter()


pace = Pace()
step = pace.step


def end_tidily() -> None:
    """In the organizer: let SIGTERM end it as an error does, so that nobody is left stopped."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


class Contender:
    """In the organizer: a process that takes turns."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def turn(self, steps: int) -> float:
        """Let it make that many steps; the seconds that they took."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{steps}\n".encode())
        self._process.stdin.flush()
        return self._listen()

    def _listen(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise SystemExit(f"{self._process.args} ended:\n{said.decode()}")
        self._process.send_signal(signal.SIGSTOP)
        return float(line)
