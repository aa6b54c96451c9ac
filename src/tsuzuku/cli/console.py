"""How things look in a terminal."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from tsuzuku.core.schemas import jsonable

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 200  # a file or a pipe has no edge to wrap at

FULL = frozenset({"run", "checkpoint", "status", "model", "dataset", "saved", "size"})
"""Columns that are never cut or wrapped."""

COLOURS = {
    "running": "green",
    "starting": "green",
    "completed": "blue",
    "stopped": "yellow",
    "stopping": "yellow",
    "paused": "yellow",
    "failed": "red",
    "crashed": "red",
}


def print_json(value: Any) -> None:
    """JSON that any program reads: NaN and infinity are null."""
    print(json.dumps(jsonable(value), ensure_ascii=False, indent=2))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the columns in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in FULL)
    return made


def show(rows: Table) -> None:
    """Print a table; in a file or a pipe without the spaces that fill it up."""
    with console.capture() as captured:
        console.print(rows)
    for line in captured.get().splitlines():
        print(line.rstrip())


def when(seconds: float) -> str:
    """A time as people write it, in their time zone."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def size(count: float) -> str:
    """A number of bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def number(value: Any) -> str:
    """A metric, short enough for a table."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def coloured(status: str) -> str:
    return f"[{COLOURS.get(status, 'default')}]{status}[/]"
