"""What following costs: many WebSocket clients on one server, while something trains.

The server (`tsuzuku serve`), the clients (all in one process), the training and what appends the
events, each in a transaction of its own, share the machine's processors: on a small one, what the
clients themselves cost is in every number. While the training's steps are timed, the clients have
the lower priority of the two.

python benchmarks/websocket_load.py [--quick] [--clients 1000] [--rate 20] [--seconds 20]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from common import make_workspace, median_of, options, print_table, verdict
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from turns import Contender, end_tidily, pace

MAX_P99_MS = 150
MAX_REPLAY_SECONDS = 1.0
MAX_SLOWDOWN = 1.03
MISSED = 100_000
RUN = "2026-11-21_19-20-14"


def event(step: int) -> Event:
    """What a worker reports every `log_interval` steps."""
    payload = {"epoch": 1, "total_epochs": 10, "step": step, "total_steps": 10**6}
    payload |= {"global_step": step, "loss": 1 / (step + 1), "learning_rate": 1e-3}
    payload |= {"grad_norm": 0.5123456, "samples_per_second": 1234.5}
    return Event(type="progress", payload=payload, run_id=RUN, time=time.time())


class Clients:
    """The process of the clients: see websocket_clients."""

    def __init__(self, port: int) -> None:
        script = Path(__file__).with_name("websocket_clients.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def __call__(self, *words: object) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("The clients ended.")
        return json.loads(line)


@contextmanager
def serving(workspace: Workspace) -> Generator[tuple[int, psutil.Process]]:
    """The server of a workspace: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    words = ["-m", "tsuzuku", "-w", str(workspace.root), "serve", "--port", str(port)]
    log = workspace.root / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, *words], stdout=said, stderr=said)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            raise SystemExit(log.read_text(encoding="utf-8"))
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def appending(store: Store, rate: float) -> Generator[None]:
    """Events at that rate until the block is left, each in a transaction of its own."""
    ended = threading.Event()

    def work() -> None:
        due, step = time.perf_counter(), 0
        while not ended.wait(max(0.0, due - time.perf_counter())):
            store.append([event(step)])
            step += 1
            due += 1 / rate

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def processor_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


def delivery(
    store: Store, clients: Clients, server: psutil.Process, count: int, rate: float, seconds: float
) -> list[float]:
    """Seconds from an event's time, just before it is committed, to a client's having it: p99s."""
    connected = clients("open", count)
    print(f"{count:,} clients connected in {connected['seconds']:.1f} s")
    load = psutil.Process(clients.process.pid)
    rows: list[list[str]] = []
    p99s: list[float] = []
    parts = 5
    with appending(store, rate):
        time.sleep(1)
        clients("report")
        for part in range(parts):
            began = time.perf_counter()
            used = [processor_seconds(process) for process in (server, load)]
            time.sleep(seconds / parts)
            used = [
                (processor_seconds(process) - before) / (time.perf_counter() - began)
                for process, before in zip((server, load), used, strict=True)
            ]
            seen = clients("report")
            p99s.append(1000 * seen["99"])
            times = [f"{1000 * seen[p]:.0f}" for p in ("50", "99", "100")]
            shares = [f"{share:.0%}" for share in used]
            rows.append([str(part + 1), f"{seen['count']:,}", *times, *shares])
    time.sleep(1)
    seen = clients("report")
    head = ["part", "deliveries", "p50 ms", "p99 ms", "max ms", "server CPU", "clients' CPU"]
    print_table(f"Delivery ({count:,} clients, {rate:g} events/s)", head, rows)
    print(f"Server's memory: {server.memory_info().rss / 1e6:.0f} MB")
    print(f"Target: p99 at most {MAX_P99_MS} ms: {verdict(p99s, MAX_P99_MS)}")
    if seen["gaps"] or seen["ends"] != 1:
        raise SystemExit(f"Clients have gaps ({seen['gaps']}), or not all have the last event.")
    clients("close")
    return p99s


def replay(store: Store, clients: Clients, rounds: int) -> None:
    """How long one client waits for many events that it has missed."""
    since = store.last_seq()
    for first in range(0, MISSED, 5000):
        store.append([event(step) for step in range(first, first + 5000)])
    last = store.last_seq()
    rows: list[list[str]] = []
    marks: list[str] = []
    for query in ("?", "?&batch=true"):
        took: list[float] = []
        for _ in range(rounds):
            seen = clients("replay", since, last, query)
            if seen["gaps"]:
                raise SystemExit("The replay has gaps.")
            took.append(seen["seconds"])
        name = "one array for many" if "batch" in query else "a message each"
        rows.append([name, f"{median_of(took):.2f}", f"{max(took):.2f}"])
        marks.append(f"{name}: {verdict(took, MAX_REPLAY_SECONDS)}")
    print_table(f"Replay of {MISSED:,} events ({rounds} rounds)", ["", "s", "max s"], rows)
    print(f"Target: at most {MAX_REPLAY_SECONDS:g} s: {'; '.join(marks)}")


def train() -> None:
    """A training's share of the machine: matrix products on one thread."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    pace.take_part(20)
    while True:
        pace.step()
        a = torch.tanh(a @ a / 512)


def slowdown(
    store: Store, clients: Clients, count: int, rate: float, rounds: int, turn: float
) -> None:
    """How much longer a training's steps take while clients follow, in turns with no clients."""
    ratios: list[float] = []
    # Followers sit at other machines: here they are to take what the others leave.
    psutil.Process(clients.process.pid).nice(10)
    with Contender(__file__, "--train") as training, appending(store, rate):
        steps = max(1, int(50 * turn / training.turn(50)))
        for _ in range(rounds):
            alone = training.turn(steps)
            clients("open", count)
            followed = training.turn(steps)
            clients("close")
            time.sleep(0.5)
            ratios.append(followed / ((alone + training.turn(steps)) / 2))
    rows = [[f"{count:,} clients against none", f"{median_of(ratios):.3f}"]]
    print_table(f"Time of a training's step ({rounds} rounds)", ["", "ratio"], rows)
    print(f"Target: at most {MAX_SLOWDOWN}: {verdict(ratios, MAX_SLOWDOWN)}")
    print(f"Processors for training, server and clients together: {os.cpu_count()}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20, help="events a second")
    parser.add_argument("--seconds", type=float, default=20, help="how long latencies are taken")
    parser.add_argument("--train", action="store_true", help="(used by the benchmark itself)")
    chosen = parser.parse_args()
    if chosen.train:
        train()
    end_tidily()
    count, seconds, rounds, turn = chosen.clients, chosen.seconds, 9, 4.0
    if chosen.quick:
        count, seconds, rounds, turn = min(count, 200), min(seconds, 5.0), 3, 1.0
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        with (
            Store(workspace.db) as store,
            serving(workspace) as (port, server),
            Clients(port) as clients,
        ):
            delivery(store, clients, server, count, chosen.rate, seconds)
            replay(store, clients, rounds)
            slowdown(store, clients, count, chosen.rate, rounds, turn)


if __name__ == "__main__":
    main()
