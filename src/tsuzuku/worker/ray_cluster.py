"""A Ray cluster as a place for ranks: reaching it, what there is room for, and leaving it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core.errors import Busy, WrongInput
from tsuzuku.core.lock import RunLock
from tsuzuku.worker.torchrun import processors

REACHED = 5.0
"""Seconds in which a cluster has to accept a connection."""

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How HTTP/2, which a cluster speaks, begins; it is answered with a frame of the same type."""

CONNECTED = 20.0
"""Seconds after which one that accepted it, but is none, is given up."""

OBJECTS = 100 << 20
"""Bytes that a local cluster may share between its processes: ranks share tensors by themselves."""

FOLDER = "tsuzuku-ray-"
"""A local cluster's folder of sockets and logs begins with that."""

LONGEST = 28
"""Letters of a folder in which the socket of a cluster still has a name that the kernel takes."""

SPARING = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
}
"""Nothing is sent anywhere, ranks stay in their folder, and what they print goes to their log."""

ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # off, its node has the loopback's address
    "RAY_AUTH_MODE": "token",
}
"""A local cluster is for this run: no other machine and no other user gets in."""


@dataclass(frozen=True)
class Machine:
    """A living node of a cluster."""

    node_id: str
    name: str
    address: str
    total: dict[str, float]
    free: dict[str, float]

    def room(self, resources: dict[str, float], *, free: bool = True) -> int:
        """How many ranks that ask for so much it has room for."""
        have = self.free if free else self.total
        return min(int(have.get(kind, 0.0) / much + 1e-6) for kind, much in resources.items())


class Cluster:
    """The cluster at an address, or one of its own that ends with it.

    All that starts processes is done in one thread, which lives as long: the kernel ends Ray's
    processes with the thread that started them, and signals stay with those who wait for them.
    """

    def __init__(self, address: str | None, gpus: bool) -> None:
        self.local = address is None
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue()
        self._folder: Path | None = None
        self._lock: RunLock | None = None
        if address not in (None, "auto"):
            _require_listening(address)
        for name, value in {**SPARING, **(ALONE if self.local else {})}.items():
            os.environ.setdefault(name, value)
        if self.local:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        self.ray: Any = _imported("ray")
        threading.Thread(target=self._work, name="ray", daemon=True).start()
        self._guard = _guard()
        try:
            if address is None:
                self._folder, self._lock = _own_folder()
                self.goes_with_it(self._folder)
                beginning = self.do(lambda: self._begin(gpus))
                _imported("ray.train.torch")  # takes as long, and is needed next
                beginning.result()
            else:
                self._reach(address)
                _imported("ray.train.torch")
            _hear_signals_again()
        except BaseException:
            self.close()
            raise

    def do(self, work: Callable[[], Any]) -> Future[Any]:
        """Have something done in Ray's thread, after what it is at."""
        done: Future[Any] = Future()
        self._jobs.put((work, done))
        return done

    def goes_with_it(self, folder: Path) -> None:
        """Have a folder removed if this process is killed, and its own cluster with it."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{folder}\n")
            self._guard.stdin.flush()

    def machines(self) -> list[Machine]:
        """Those that are alive, this one first."""
        free: dict[str, Any] = self.ray._private.state.available_resources_per_node()
        here = str(self.ray.get_runtime_context().get_node_id())
        found = [
            Machine(
                node_id=node["NodeID"],
                name=str(node.get("NodeManagerHostname") or node["NodeManagerAddress"]),
                address=str(node["NodeManagerAddress"]),
                total=dict(node.get("Resources", {})),
                free=dict(free.get(node["NodeID"], {})),
            )
            for node in self.ray.nodes()
            if node["Alive"]
        ]
        return sorted(found, key=lambda machine: (machine.node_id != here, machine.node_id))

    def close(self) -> None:
        """Leave the cluster; one of its own ends."""
        with contextlib.suppress(Exception):
            self.ray.shutdown()
        self._jobs.put(None)
        if self._guard is not None:
            with contextlib.suppress(OSError):
                self._guard.communicate("done\n")
        if self._lock is not None and self._folder is not None:
            self._lock.release()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

    def _begin(self, gpus: bool) -> None:
        self.ray.init(
            address="local",  # without it, RAY_ADDRESS or another cluster here would be taken
            num_cpus=processors(),
            num_gpus=None if gpus else 0,
            object_store_memory=OBJECTS,
            include_dashboard=False,
            _temp_dir=str(self._folder),
            # the kernel decides who is ended when memory runs out, as without Ray
            _system_config={"memory_monitor_refresh_ms": 0, "enable_worker_prestart": False},
            **QUIET,
        )

    def _reach(self, address: str) -> None:
        connecting = self.do(lambda: self.ray.init(address=address, **QUIET))
        try:
            connecting.result(CONNECTED)
        except NotInTime:
            raise _unreachable(address, f"no Ray answers there within {CONNECTED:.0f} s") from None
        except (ConnectionError, OSError, ValueError) as error:
            raise _unreachable(address, _first_line(error)) from None
        except Exception as error:
            if "Version mismatch" in str(error):
                raise WrongInput(
                    f"training.distributed.address: the cluster at {address} has other versions "
                    f"than this machine: {_versions(str(error))}.",
                    "Install the same versions on every machine.",
                    code="other_versions",
                ) from None
            raise _unreachable(address, _first_line(error)) from None


QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.WARNING,
    "configure_logging": True,
}


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or "ray"
        raise WrongInput(
            "training.distributed.launcher: ray needs Ray Train, and this Python has no "
            f"{missing}.",
            "`pip install 'tsuzuku[ray]'` installs it.",
            code="ray_missing",
        ) from None


def _hear_signals_again() -> None:
    """Undo what Ray did to signals: it takes a SIGTERM for a crash, and aborts three seconds later
    whoever wants to save first."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.getsignal(number))
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _guard() -> subprocess.Popen[str] | None:
    """What ends this process's session after it; only a worker has one of its own."""
    if os.getsid(0) != os.getpid():
        return None
    command = [sys.executable, "-P", "-m", "tsuzuku.worker.ray_guard", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)


def _own_folder() -> tuple[Path, RunLock]:
    """A folder for a cluster of one's own; those that killed drivers left are swept."""
    usual = Path(tempfile.gettempdir())
    base = usual if len(str(usual)) <= LONGEST else Path("/tmp")
    for left in base.glob(f"{FOLDER}*"):
        lock = RunLock(left / "lock")
        with contextlib.suppress(Busy, OSError):
            lock.acquire()
            shutil.rmtree(left, ignore_errors=True)
            lock.release()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=base))
    lock = RunLock(folder / "lock")
    lock.acquire()
    return folder, lock


def _require_listening(address: str) -> None:
    """Raise WrongInput unless something listens there; Ray by itself would try for a minute."""
    match = re.fullmatch(r"(?!\w+://)\[?([^\[\]\s]+?)\]?:(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise WrongInput(
            f"training.distributed.address: {address} is not an address of a Ray cluster.",
            "Use host:port, as `ray start --head` prints it, or auto for the cluster that this "
            "machine belongs to.",
        )
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=REACHED) as line:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            line.sendall(HELLO)
            answer = line.recv(9)
    except TimeoutError:
        raise _unreachable(address, f"nothing answers within {REACHED:.0f} s") from None
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None
    if answer[3:4] != HELLO[-6:-5]:
        raise _unreachable(address, "what answers there is no Ray")


def _unreachable(address: str, why: str) -> WrongInput:
    return WrongInput(
        f"training.distributed.address: the Ray cluster at {address} cannot be reached: "
        f"{why.rstrip('.')}.",
        "Look whether it runs (`ray status`) and whether this machine is one of it "
        "(`ray start --address=…`).",
        code="unreachable_cluster",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _versions(text: str) -> str:
    """What Ray says about versions that do not fit, in a line."""
    return ", ".join(line.strip() for line in text.splitlines() if re.match(r"\s+\w+: ", line))


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
