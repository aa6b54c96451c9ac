"""data download, data make."""

from __future__ import annotations

import json
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tsuzuku.cli.console import console
from tsuzuku.cli.source import Source
from tsuzuku.core.asking import ask_worker
from tsuzuku.core.config_loader import suggest
from tsuzuku.core.downloadable import MADE, downloads, target_of
from tsuzuku.core.errors import WrongInput, full_stop
from tsuzuku.core.workspace import Workspace


def download(workspace: Workspace, name: str) -> int:
    workspace.config()
    known = downloads(workspace)
    if name not in known:
        raise WrongInput(
            full_stop(f"No download is known for {name!r}{suggest(name, sorted(known))}")
        )
    target = target_of(workspace, name, known[name])
    words = ("--name", name, "--spec", json.dumps(known[name]), "--target", str(target))
    bar = download_bar()
    tasks: dict[str, Any] = {}
    with bar:
        for answer in ask_worker(workspace, "fetch", *words):
            file = answer["file"]
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=answer["total_bytes"])
            bar.update(tasks[file], completed=answer["done_bytes"])
            if answer["message"]:
                bar.console.print(f"[dim]{answer['message']}[/]")
    console.print(f"{name} is in {target}")
    return 0


def download_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
    )


def make(workspace: Workspace, name: str) -> tuple[str, str]:
    """Where it is, and the path to train on it with."""
    workspace.config()
    if name not in MADE:
        raise WrongInput(full_stop(f"{name!r} cannot be made{suggest(name, sorted(MADE))}"))
    target = workspace.root / MADE[name]
    for _ in ask_worker(workspace, "make", "--name", name, "--target", str(target)):
        pass
    return str(target), MADE[name]


def show_made(source: Source, name: str) -> None:
    """data make."""
    place, path = source.make(name)
    console.print(f"{name} is in {place}; train on it with dataset.path={path}")
