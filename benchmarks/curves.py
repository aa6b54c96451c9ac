"""What metrics cost: inserting many points, and drawing a chart of them.

python benchmarks/curves.py [--quick] [--points 10000000]
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store

CHUNK = 100_000
RUN, KEY = "2026-11-21_19-20-14", "loss"


def median_ms(rounds: int, work: Callable[[], object]) -> float:
    """Median of the wall times of `work`, in ms."""
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def fill(store: Store, points: int) -> float:
    """Insert that many points in chunks; returns the seconds that the store took."""
    took = 0.0
    for first in range(0, points, CHUNK):
        steps = range(first, min(first + CHUNK, points))
        values = [math.exp(-step / points) + 0.1 * math.sin(step * 1.7) for step in steps]
        began = time.perf_counter()
        store.add_points(RUN, KEY, steps, values)
        took += time.perf_counter() - began
    return took


def small_appends(store: Store) -> float:
    """Median ms of appending 50 progress events with 4 metrics each."""
    step = 0

    def append() -> None:
        nonlocal step
        events: list[Event] = []
        for _ in range(50):
            step += 1
            payload = {"epoch": 1, "total_epochs": 9, "step": step, "total_steps": 9999}
            payload |= {"global_step": step, "loss": 1 / step, "learning_rate": 1e-3}
            payload |= {"grad_norm": 0.5, "samples_per_second": 1e3}
            events.append(Event(type="progress", payload=payload, run_id="small", time=step))
        store.append(events)

    return median_ms(100, append)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the points, for CI")
    chosen = parser.parse_args()
    points: int = chosen.points // 10 if chosen.quick else chosen.points
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tsuzuku.db"
        with Store(path) as store:
            took = fill(store, points)
            print(f"insert: {1e6 * took / points:.2f} µs/point ({points:,} points)")
            whole = median_ms(9, lambda: store.curve(RUN, KEY))
            print(f"chart of 2,000 points, whole range: {whole:.1f} ms")
            low, high = points // 3 + 7, points // 3 + 7 + points // 20
            zoom = median_ms(9, lambda: store.curve(RUN, KEY, from_step=low, to_step=high))
            print(f"chart of 2,000 points, zoom to 5 %: {zoom:.1f} ms")
            print(f"append of 50 progress events with 4 metrics: {small_appends(store):.2f} ms")
        print(f"database: {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
