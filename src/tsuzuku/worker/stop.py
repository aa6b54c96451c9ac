"""How a worker is asked to stop. Loads nothing else, so that it listens from the first moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Protocol


class Stop(Protocol):
    """Says whether the training is to stop, and by which signal."""

    number: int

    def requested(self) -> bool: ...

    def when_asked(self, tell: Callable[[], None]) -> None: ...


class StopSignal:
    """SIGTERM or SIGINT: the first asks the training to stop and save, the second ends it."""

    def __init__(self) -> None:
        self.number = 0
        self._tell: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def requested(self) -> bool:
        return self.number != 0

    def when_asked(self, tell: Callable[[], None]) -> None:
        """Call `tell` with the first signal; at once if it has come already."""
        self._tell = tell
        if self.number:
            tell()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        if self._tell:
            self._tell()
