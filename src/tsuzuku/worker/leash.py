"""The line between a training's driver and its ranks: JSON lines over TCP, both ways.

The driver is the worker process that the server or the command line started: it holds the run's
lock and writes the store. A rank says what happens, and waits where it has to know that it is on
the disk; the driver says when to stop. When the driver is gone, the line ends, and so does the
rank: nobody trains a run that nobody holds. The store is written by the driver alone, so that a
server may come and go meanwhile, and SQLite never lies on a network file system.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.core.trees import Tree, is_tree

ORPHANED = 70
"""Exit code of a rank whose driver has gone."""

INTERVAL = 0.1
"""Seconds for which a rank gathers what it says."""

SILENCE = 30_000
"""Milliseconds after which a line whose other end does not acknowledge is given up."""

LONGEST = 64 << 20
"""Bytes of a line."""

ADDRESS, KEY, TASK = "TSUZUKU_DRIVER", "TSUZUKU_DRIVER_KEY", "TSUZUKU_TASK"
"""Environment of a rank: where its driver listens, what proves that it is one of its ranks, and
what it is to train."""


class Leash:
    """The driver's end. What the ranks say comes out of `next`, each rank's in its order."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.key = secrets.token_hex(16)
        self._heard: queue.Queue[tuple[int, Tree]] = queue.Queue()
        self._lines: dict[int, socket.socket] = {}
        self._sending = threading.Lock()
        self._last_word: Tree | None = None
        self._socket = socket.create_server((host, 0))
        self.address = "{}:{}".format(*self._socket.getsockname()[:2])
        threading.Thread(target=self._accept, name="leash", daemon=True).start()

    def environment(self, task: Tree) -> dict[str, str]:
        """What a rank needs to find the way, and to begin."""
        return {ADDRESS: self.address, KEY: self.key, TASK: json.dumps(task)}

    @property
    def held(self) -> list[int]:
        """The ranks whose line is up."""
        with self._sending:
            return sorted(self._lines)

    def next(self, seconds: float) -> tuple[int, Tree] | None:
        """The next rank and what it said, if it comes within so many seconds."""
        try:
            return self._heard.get(timeout=seconds)
        except queue.Empty:
            return None

    def answer(self, rank: int, words: Tree) -> None:
        with self._sending:
            line = self._lines.get(rank)
            if line is not None:
                _send(line, words)

    def tell(self, words: Tree) -> None:
        """Say something to every rank, and to those that come later."""
        with self._sending:
            self._last_word = words
            for line in self._lines.values():
                _send(line, words)

    def let_go(self) -> None:
        """End every line, and so every rank."""
        with self._sending:
            for line in self._lines.values():
                _close(line)
        _close(self._socket)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def _listen(self, line: socket.socket) -> None:
        rank = -1
        try:
            _be_patient_at_most(line)
            with line, line.makefile("rb") as words:
                hello = _read(words)
                if hello is None or not _same(hello.get("key"), self.key):
                    return
                rank = int(hello["rank"])
                with self._sending:
                    self._lines[rank] = line
                    if self._last_word is not None:
                        _send(line, self._last_word)
                self._heard.put((rank, {k: v for k, v in hello.items() if k != "key"}))
                while (said := _read(words)) is not None:
                    self._heard.put((rank, said))
        except (OSError, ValueError):
            pass  # as if it had hung up
        finally:
            if rank >= 0:
                with self._sending:
                    self._lines.pop(rank, None)
                self._heard.put((rank, {"do": "gone"}))


class Line:
    """A rank's end. Safe to call from any thread; the training never waits for it but to `ask`."""

    def __init__(self, address: str, key: str, hello: Tree, when_gone: Callable[[], None]) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=SILENCE / 1000)
        except OSError as error:
            raise TsuzukuError(
                f"Rank {hello.get('rank')} on {hello.get('host')} cannot reach its driver at "
                f"{address}: {error.strerror or error}.",
                code="unreachable_driver",
            ) from None
        self._socket.settimeout(None)
        _be_patient_at_most(self._socket)
        self.stop_asked = False
        self._queue: deque[Tree] = deque([{"do": "hello", "key": key, **hello}])
        self._answers: dict[int, queue.Queue[Tree]] = {}
        self._number = 0
        self._numbering = threading.Lock()
        self._wake = threading.Event()
        self._when_gone = when_gone
        self._writing = threading.Lock()
        self._write()
        for work in (self._talk, self._listen):
            threading.Thread(target=work, name="leash", daemon=True).start()

    def send(self, words: Tree) -> None:
        self._queue.append(words)

    def ask(self, words: Tree) -> Tree:
        """Say something, and wait for the answer; raises TsuzukuError if that is an error."""
        answer: queue.Queue[Tree] = queue.Queue()
        with self._numbering:
            self._number += 1
            number = self._number
        self._answers[number] = answer
        self.send({**words, "id": number})
        self._wake.set()
        said = answer.get()
        if (error := said.get("error")) is not None:
            raise raised(error)
        return said

    def close(self) -> None:
        """Send what is left."""
        self._when_gone = lambda: None
        self._write()
        _close(self._socket)

    def _talk(self) -> None:
        while True:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            try:
                self._write()
            except OSError:
                self._when_gone()
                return

    def _write(self) -> None:
        with self._writing:
            gathered: list[bytes] = []
            while self._queue:
                gathered.append(_line(self._queue.popleft()))
            if gathered:
                self._socket.sendall(b"".join(gathered))

    def _listen(self) -> None:
        try:
            with self._socket.makefile("rb") as words:
                while (said := _read(words)) is not None:
                    if said.get("do") == "stop":
                        self.stop_asked = True
                    elif (answer := self._answers.pop(int(said.get("id", 0)), None)) is not None:
                        answer.put(said)
        except (OSError, ValueError):
            pass
        self._when_gone()


def die() -> None:
    """What a rank does when its driver has gone: whatever it holds belongs to nobody."""
    os._exit(ORPHANED)


def as_words(error: TsuzukuError) -> Tree:
    """An error as it is sent."""
    words = {"detail": error.detail, "hint": error.hint, "code": error.code}
    return {**words, "exit_code": error.exit_code}


def raised(words: Any) -> TsuzukuError:
    """The error that `as_words` described."""
    tree: Tree = words if is_tree(words) else {"detail": str(words)}
    code = str(tree.get("code", ""))
    kind = DiskFull if code == DiskFull.code else TsuzukuError  # for which a save waits
    error = kind(str(tree.get("detail", "")), str(tree.get("hint", "")), code=code)
    error.exit_code = int(tree.get("exit_code", 1))
    return error


def _same(given: object, key: str) -> bool:
    return hmac.compare_digest(str(given).encode(errors="replace"), key.encode())


def _line(words: Tree) -> bytes:
    return json.dumps(words, separators=(",", ":")).encode() + b"\n"


def _send(line: socket.socket, words: Tree) -> None:
    with contextlib.suppress(OSError):  # who reads it finds out that it is down
        line.sendall(_line(words))


def _read(words: Any) -> Tree | None:
    """The next line, None at the end; raises ValueError for what is none."""
    text: bytes = words.readline(LONGEST)
    if not text.endswith(b"\n"):
        return None
    said: Any = json.loads(text)
    if not is_tree(said):
        raise ValueError("not a message")
    return said


def _be_patient_at_most(line: socket.socket) -> None:
    """Notice when the other machine is gone without a word, which TCP would not for hours."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)


def _close(line: socket.socket) -> None:
    for end in (lambda: line.shutdown(socket.SHUT_RDWR), line.close):
        with contextlib.suppress(OSError):
            end()
