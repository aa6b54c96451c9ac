"""data download through a server."""

from __future__ import annotations

import time
from typing import Any

from rich.markup import escape

from tsuzuku.cli.console import console
from tsuzuku.cli.datasets import download_bar
from tsuzuku.client import Client
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.schemas import Event

PAUSE = 0.3
"""Seconds between two looks at what the download has said."""

SILENCE = 10.0
"""Seconds without a word after which the server is asked whether it still downloads."""


def download(client: Client, name: str) -> int:
    """Let the server download a data set, and show it; it does not need this terminal."""
    after = client.last_seq()
    client.download_dataset(name)
    tasks: dict[str, Any] = {}
    heard = time.monotonic()
    with download_bar() as bar:
        while True:
            page = client.event_page(after)
            after = page.next
            for event in (e for e in page.events if e.payload.get("dataset") == name):
                heard = time.monotonic()
                payload = event.payload
                if event.type == "error":
                    raise TsuzukuError(payload["message"], code=payload["code"])
                if payload.get("done"):
                    bar.console.print(escape(payload["message"]))
                    return 0
                _show(event, bar, tasks)
            if not page.events:
                if time.monotonic() - heard > SILENCE and not _goes_on(client, name, after):
                    raise TsuzukuError(
                        f"The download of {name} ended without a word.",
                        "Start it again; it goes on where it was.",
                    )
                time.sleep(PAUSE)


def _show(event: Event, bar: Any, tasks: dict[str, Any]) -> None:
    payload, file = event.payload, event.payload.get("file")
    if payload["level"] != "info":
        console.print(f"[yellow]{escape(payload['message'])}[/]")
    if file is not None:
        if file not in tasks:
            tasks[file] = bar.add_task(escape(file), total=payload["total_bytes"])
        bar.update(tasks[file], completed=payload["done_bytes"])


def _goes_on(client: Client, name: str, after: int) -> bool:
    """Whether a download is under way, or has said something since."""
    downloading = name in client.datasets(details=False).downloading
    return downloading or bool(client.event_page(after, limit=1).events)
