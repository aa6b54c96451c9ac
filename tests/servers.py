"""The server as a user runs it: `tsuzuku serve` as a process of its own, on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE = 60.0
"""Seconds in which a server is ready, or has ended."""


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    url: str
    """Without a slash at its end."""
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    """What it writes to stderr."""
    root: Path

    def kill(self) -> None:
        """SIGKILL; its workers live on."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


@contextmanager
def serving(
    root: Path,
    *words: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[Served]:
    """Serve the workspace in `root` with more `words` for `serve`; it answers when this yields.

    What it says goes into `log`, by default beside the workspace. At the end the server is
    stopped, and every worker of this workspace killed.
    """
    log = log or root.parent / f"{root.name}-server.log"
    port = port or free_port()
    command = [sys.executable, "-m", "tsuzuku", "-w", str(root), "serve", "--port", str(port)]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env={**os.environ, **(env or {})},
        )
    served = Served(f"http://127.0.0.1:{port}", port, process, log, root)
    try:
        _wait_until_ready(served)
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        kill_workers(root)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def workers(root: Path) -> list[psutil.Process]:
    """The workers of a workspace: trainings, desks, downloads."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if "tsuzuku.worker" in words and str(root.absolute()) in words:
            found.append(process)
    return found


@contextmanager
def held(root: Path, *words: str) -> Iterator[None]:
    """The worker of a workspace that has `words` in its command stands still, as soon as there is
    one, until the end: so that what is seen while it works does not depend on who is faster."""
    until = time.monotonic() + PATIENCE
    while not (found := [p for p in workers(root) if _is_about(p, words)]):
        assert time.monotonic() < until, f"there is no worker with {words}"
        time.sleep(0.005)
    for process in found:
        process.suspend()
    try:
        yield
    finally:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _is_about(process: psutil.Process, words: tuple[str, ...]) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return set(words) <= set(process.cmdline())
    return False


def kill_workers(root: Path) -> None:
    """SIGKILL to every worker of a workspace."""
    for process in workers(root):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)


def _wait_until_ready(served: Served) -> None:
    until = time.monotonic() + PATIENCE
    while not _answers(served.url):
        code = served.process.poll()
        assert code is None, f"the server ended with {code}:\n{served.log.read_text()}"
        assert time.monotonic() < until, f"the server is not ready:\n{served.log.read_text()}"
        time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=5):
            return True
    except OSError:
        return False
