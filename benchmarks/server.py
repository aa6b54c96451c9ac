"""The server's first answer, its memory, and long listings over HTTP.

python benchmarks/server.py [--quick]
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from common import make_workspace, median_of, options, print_table, verdict
from tsuzuku.core.schemas import Attempt, Checkpoint, Run
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

MAX_READY = 2.0
"""Seconds."""
MAX_MEMORY = 150.0
"""Millions of bytes."""
MAX_LISTING = 50.0
"""Milliseconds."""
ROWS = 10_000
PATHS = ("/api/checkpoints", "/api/runs")


def main() -> None:
    quick = options(__doc__).parse_args().quick
    rounds, listings = (3, 10) if quick else (9, 50)
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        with serving(workspace):
            pass  # the first one describes the plug-ins, and reads the files from the disk
        ready: list[float] = []
        for _ in range(rounds):
            with serving(workspace) as (_, _, seconds):
                ready.append(seconds)
        fill(workspace, ROWS)
        with serving(workspace) as (_, _, filled):
            pass
        with serving(workspace, "--no-dashboard") as (url, process, _):
            idle = memory(process)
            times = {path: listed(url + path, listings) for path in PATHS}
            busy = memory(process)
    rows = [
        ["ready (empty)", f"{median_of(ready):.2f} s", f"{min(ready):.2f} s"],
        [f"ready ({ROWS:,} runs)", f"{filled:.2f} s", ""],
        ["memory at first, without the dashboard", f"{idle:.0f} MB", ""],
        ["memory after the listings", f"{busy:.0f} MB", ""],
        *([p, f"{median_of(taken):.1f} ms", f"{min(taken):.1f} ms"] for p, taken in times.items()),
    ]
    title = f"Server ({rounds} starts, {ROWS:,} runs and checkpoints)"
    print_table(title, ["", "median", "fastest"], rows)
    print(f"Target: ready in at most {MAX_READY:g} s: {verdict(ready, MAX_READY)}")
    print(f"Target: at most {MAX_MEMORY:g} MB: {verdict([idle, busy], MAX_MEMORY)}")
    for path, taken in times.items():
        print(f"Target: {path} in at most {MAX_LISTING:g} ms: {verdict(taken, MAX_LISTING)}")


@contextmanager
def serving(
    workspace: Workspace, *words: str
) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """A server's URL, its process, and the seconds until it answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", "tsuzuku", "-w", str(workspace.root), "serve", *words]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    try:
        with httpx.Client() as client:
            while True:
                try:
                    client.get(f"{url}/api/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, "the server ended"
                    time.sleep(0.005)
        yield url, process, time.perf_counter() - began
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait()
        psutil.wait_procs(children)  # who looks at the plug-ins would slow the next one down


def fill(workspace: Workspace, count: int) -> None:
    """Rows of so many runs with an attempt and a checkpoint each."""
    with Store(workspace.db) as store:
        for number in range(count):
            second = time.gmtime(1_700_000_000 + number)
            run_id = time.strftime("%Y-%m-%d_%H-%M-%S", second)
            at = 1_700_000_000.0 + number
            names = {"run_id": run_id, "model_name": "mlp", "dataset_name": "points"}
            store.put_run(
                Run(**names, status="completed", created_at=at, updated_at=at, attempt=1,
                    epoch=10, global_step=1000, total_epochs=10, best_metric=0.123456789)
            )  # fmt: skip
            store.put_attempt(
                Attempt(run_id=run_id, attempt=1, pid=1, hostname="host", started_at=at,
                        ended_at=at, status="completed")
            )  # fmt: skip
            store.put_checkpoint(
                Checkpoint(**names, name="mlp-points-epoch-10.pt", epoch=10, global_step=1000,
                           path=f"/somewhere/{run_id}/mlp-points-epoch-10.pt", size=123456789,
                           sha256="0" * 64, created_at=at, metrics={"val_loss": 0.1, "wer": 0.2},
                           is_best=True, is_latest=True, kept_because=["newest", "best"])
            )  # fmt: skip


def listed(url: str, rounds: int) -> list[float]:
    """Milliseconds of whole answers."""
    taken: list[float] = []
    with httpx.Client(timeout=60) as client:
        for _ in range(rounds + 2):
            began = time.perf_counter()
            answer = client.get(url)
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.json()["total"] == ROWS
    return taken[2:]


def memory(process: subprocess.Popen[bytes]) -> float:
    """Resident memory in millions of bytes."""
    return psutil.Process(process.pid).memory_info().rss / 1e6


if __name__ == "__main__":
    main()
