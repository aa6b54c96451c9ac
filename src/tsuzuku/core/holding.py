"""Checkpoints that somebody is using: a shared lock on the file, which ends with its process.

So whoever prunes, in whichever process, knows of trainings that read it just now and of models
that were loaded from it, and a crash leaves nothing behind. Where a file system has no such locks
nothing is known to be in use.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tsuzuku.core import checkpoint_files


class Hold:
    """Says that a checkpoint is in use, until it is released or its process ends.

    A file with several names (the best one) is held under all of them.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # gone, being deleted, or no locks here: opening it will tell
            self.release()

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.release()


@contextmanager
def held(path: Path) -> Generator[None]:
    """The checkpoint is in use meanwhile."""
    hold = Hold(path)
    try:
        yield
    finally:
        hold.release()


def is_held(path: Path) -> bool:
    """Whether anybody uses the checkpoint just now."""
    with _alone(path) as alone:
        return not alone


def remove_unless_held(path: Path) -> bool:
    """Delete a checkpoint that nobody uses; whether that was so."""
    with _alone(path) as alone:
        if alone:
            checkpoint_files.remove(path)
        return alone


@contextmanager
def _alone(path: Path) -> Generator[bool]:
    """Whether nobody uses the checkpoint; nobody can begin to meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    except OSError:
        yield True
    else:
        yield True
    finally:
        os.close(fd)
