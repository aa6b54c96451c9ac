"""`python -m tsuzuku.worker.ray_guard SESSION`: ends a local cluster whose driver was killed.

Ray's own processes notice within a minute or two that theirs has gone; this one at once. It reads
names of folders, a line each, until its driver says `done` or is no more. Then every process of
the driver's session but the driver is ended, and the folders are removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

import psutil

PATIENCE = 10.0
"""Seconds for which processes are looked for: one may just be starting another."""


def main(session: int) -> None:
    folders: list[str] = []
    for line in sys.stdin:
        if line == "done\n":
            break
        folders.append(line.rstrip("\n"))
    end = time.monotonic() + PATIENCE
    while (living := _of_session(session)) and time.monotonic() < end:
        for pid in living:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _of_session(session: int) -> list[int]:
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if process.pid == session or os.getsid(process.pid) != session:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]))
