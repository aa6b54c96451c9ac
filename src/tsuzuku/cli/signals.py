"""SIGINT and SIGTERM of the terminal's process, which mean the training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Self


class Signals:
    """While this is open, hands each SIGINT and SIGTERM to what `to` was given.

    Those that come before `to` is called are kept for it: between a request and its answer a
    training may be under way already. `got` are all their numbers.
    """

    def __init__(self) -> None:
        self.got: list[int] = []
        self._receiver: Callable[[int], None] | None = None

    def __enter__(self) -> Self:
        self._before = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, receiver: Callable[[int], None]) -> None:
        self._receiver = receiver
        for number in self.got:
            receiver(number)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.got.append(number)
        if self._receiver is not None:
            self._receiver(number)
