"""data download, data make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from tsuzuku.cli.console import console
from tsuzuku.cli.source import Source
from tsuzuku.core.asking import ask_worker
from tsuzuku.core.config_loader import suggest
from tsuzuku.core.downloadable import MADE, Making, downloads, target_of
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


def make(workspace: Workspace, making: Making, output: Path | None = None) -> tuple[str, str]:
    """Where it is, and the path to train on it with."""
    workspace.config()
    place = MADE.get(making.name, "")
    target = workspace.root / place if output is None else output.absolute()
    if making.text is not None:
        making = replace(making, text=making.text.absolute())
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task: TaskID | None = None
        for answer in ask_worker(workspace, *making.words(target)):
            if "total" in answer:
                if task is None:
                    task = bar.add_task(f"making {making.name}", total=answer["total"])
                bar.update(task, completed=answer["done"])
    return str(target), place if output is None else str(target)


def show_made(source: Source, making: Making, output: Path | None = None) -> None:
    """data make."""
    place, path = source.make(making, output)
    console.print(f"{making.name} is in {place}; train on it with dataset.path={path}")
