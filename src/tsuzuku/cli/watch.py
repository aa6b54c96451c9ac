"""Showing a training's events as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from tsuzuku.cli.console import console, number, show, table
from tsuzuku.core.schemas import FINAL, Event, is_detail
from tsuzuku.core.store import Store

LINE_EVERY = 5.0
"""Seconds between two progress lines where there is no terminal to draw a bar in."""

COLOURS = {"warning": "yellow", "error": "red", "debug": "dim"}


class Watch:
    """Draws the events of one run: a bar in a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self.status = ""
        self.error: Event | None = None
        self._bar: Progress | None = None
        self._task: Any = None
        self._line_at = 0.0
        self._last: tuple[float, int] | None = None
        self._pace: float | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[epoch]}"),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[step]}"),
                TextColumn("[cyan]{task.fields[loss]}[/] {task.fields[rest]}"),
                console=console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case "progress":
                self._progress(event)
            case "validation_result":
                shown = " ".join(
                    f"{k} {number(v)}"
                    for k, v in payload.items()
                    if k not in ("epoch", "global_step") and not is_detail(k)
                )
                console.print(f"[bold]Epoch {payload['epoch']}[/] {escape(shown)}")
            case "checkpoint":
                best = " (best)" if payload["is_best"] else ""
                console.print(f"[dim]saved {escape(payload['name'])}{best}[/]")
            case "log":
                if payload["level"] != "debug":
                    colour = COLOURS.get(payload["level"], "default")
                    console.print(f"[{colour}]{escape(payload['message'])}[/]")
            case "error":
                self.error = event
            case "status":
                self.status = payload["status"]
                if self.status == "paused":
                    console.print(f"[yellow]paused: {escape(payload['message'])}[/]")

    def _progress(self, event: Event) -> None:
        payload = event.payload
        left = payload["total_steps"] * payload["total_epochs"]
        done = payload["total_steps"] * (payload["epoch"] - 1) + payload["step"]
        speed = payload["samples_per_second"] or 0.0
        fields: dict[str, Any] = {
            "epoch": f"Epoch {payload['epoch']}/{payload['total_epochs']}",
            "step": f"Step {payload['step']}/{payload['total_steps']}",
            "loss": f"loss {number(payload['loss'])}",
            "rest": f"lr {number(payload['learning_rate'])} · {speed:,.0f} samples/s"
            + self._eta(event),
        }
        if self._bar is None:
            if time.monotonic() - self._line_at >= LINE_EVERY:
                self._line_at = time.monotonic()
                console.print(" ".join(fields.values()))
        elif self._task is None:
            self._task = self._bar.add_task("", total=left, completed=done, **fields)
        else:
            self._bar.update(self._task, total=left, completed=done, **fields)

    def _eta(self, event: Event) -> str:
        """The time that is left at the speed of the newest steps."""
        payload, step = event.payload, event.payload["global_step"]
        last, self._last = self._last, (event.time, step)
        if last is None or step <= last[1]:
            return ""
        pace = (event.time - last[0]) / (step - last[1])
        self._pace = pace if self._pace is None else 0.9 * self._pace + 0.1 * pace
        total = payload["total_steps"] * payload["total_epochs"]
        done = payload["total_steps"] * (payload["epoch"] - 1) + payload["step"]
        seconds = int((total - done) * self._pace)
        return f" · ETA {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def follow(store: Store, run_id: str, watch: Watch, after: int, ended: Callable[[], bool]) -> int:
    """Show a run's events after `after` until `ended()` and nothing is left; the last number."""
    while True:
        over = ended()  # asked before reading: what came before the end is still shown
        events = store.events(after=after, run_id=run_id, limit=1000)
        for event in events:
            watch.show(event)
            after = event.seq
        if not events:
            if over or (watch.status in FINAL and ended()):
                return after
            time.sleep(0.1)


def results_of(store: Store, run_id: str) -> list[Event]:
    return store.events(run_id=run_id, types=["validation_result"], limit=100_000)


def summary(results: Iterable[Event]) -> None:
    """A table of every metric over the epochs: best and last, and where."""
    by_epoch = {e.payload["epoch"]: e.payload for e in results}
    if not by_epoch:
        return
    rows = table(
        "metric", "min", "epoch", "max", "epoch", "last", right=("min", "max", "last", "epoch")
    )
    keys = [k for k in by_epoch[max(by_epoch)] if k not in ("epoch", "global_step")]
    for key in keys:
        values = [(p[key], e) for e, p in sorted(by_epoch.items()) if isinstance(p.get(key), float)]
        if values:
            low, high = min(values), max(values)
            rows.add_row(
                key,
                number(low[0]),
                str(low[1]),
                number(high[0]),
                str(high[1]),
                number(values[-1][0]),
            )
    show(rows)
