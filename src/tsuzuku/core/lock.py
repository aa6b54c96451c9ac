"""The lock that says that a run has a living worker.

A POSIX record lock (`fcntl`): the kernel drops it when its process ends, however it ends, and
forked loader processes do not inherit it. A process id in a file could do neither.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from tsuzuku.core.errors import Busy

# struct flock on 64-bit Linux and on macOS differ in order; the kernel fills in l_pid
_LINUX = "hhqqi4x"
_MACOS = "qqihh"


class RunLock:
    """Held by a worker for as long as it works on a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock; raises Busy, naming the process that holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = _holder(fd)
            os.close(fd)
            raise Busy(
                f"Process {other} is training this run already ({self.path.parent}).",
                "Stop it first (`tsuzuku stop`), or follow it (`tsuzuku follow`).",
                code="already_running",
            ) from None
        self._fd = fd  # closing any descriptor of this file would drop the lock: keep just one

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(path: Path) -> int | None:
    """The process that holds the lock, or None. Never call it in the process that holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _holder(fd)
    finally:
        os.close(fd)


def _holder(fd: int) -> int | None:
    linux = os.uname().sysname == "Linux"
    layout = _LINUX if linux else _MACOS
    ask = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) if linux else (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    answer = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(layout, *ask)))
    kind, pid = (answer[0], answer[4]) if linux else (answer[3], answer[2])
    return None if kind == fcntl.F_UNLCK else int(pid)
