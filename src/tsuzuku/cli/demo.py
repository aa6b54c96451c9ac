"""demo: the main job, with everything it needs made on the spot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from tsuzuku.cli import datasets
from tsuzuku.cli.console import console
from tsuzuku.cli.local import Local
from tsuzuku.cli.remote_training import begin, join
from tsuzuku.cli.scaffold import init_workspace
from tsuzuku.cli.signals import Signals
from tsuzuku.client import Client, Unreachable
from tsuzuku.core.downloadable import MADE, Making
from tsuzuku.core.errors import NotFound, TsuzukuError, WrongInput
from tsuzuku.core.schemas import Event
from tsuzuku.core.workspace import Workspace

MODEL, DATASET = "conformer", "ljspeech"
SENTENCES = 3
"""Held-out ones that are transcribed at the end."""
PATIENCE = 60.0
"""Seconds in which a server answers or has ended."""


def demo(folder: Path, words: list[str], *, until_trained: bool, port: int | None) -> int:
    """Make speech, serve the page, train a recognizer on it, let it transcribe.

    Ctrl-C stops the training with a checkpoint, from which the next demo goes on. However the
    training ends, the page stays until Ctrl-C, and what is started there is shown here; with
    `until_trained` it ends at once.
    """
    workspace = Workspace(folder)
    if not workspace.config_path.exists():
        workspace = Workspace(folder / "demo" if folder == Path() else folder)
        init_workspace(workspace.root)
    if not (workspace.root / MADE["speech"] / "metadata.csv").exists():
        datasets.show_made(Local(workspace), Making("speech"))
    port = port or _free_port(workspace.config().settings.server.port)
    url = f"http://127.0.0.1:{port}"
    with served(workspace, port) as (server, client), Signals() as signals:
        _show_where(url)
        code = begin(client, MODEL, DATASET, words, False, None, signals)
        model: str | None = MODEL
        while not signals.got and not (code and until_trained):
            if code == 0 and model == MODEL:
                _transcribe(client)
            if until_trained:
                break
            since = client.last_seq()
            console.print(f"\nThe page stays at {url}/ until Ctrl-C. What you start there, or let")
            console.print("go on, is shown here.")
            begun = _next_training(server, client, since, signals)
            if begun is None:
                console.print("Everything is in the workspace; `tsuzuku serve` opens its page.")
                return 0
            run = client.run(str(begun.run_id))
            model, code = run.model_name, join(client, run, begun.seq - 1, signals)
    return code


def _next_training(
    server: subprocess.Popen[bytes], client: Client, since: int, signals: Signals
) -> Event | None:
    """The first event of the next training, when it comes; None after a signal or the server's
    end."""

    def leave(_: object) -> None:
        raise KeyboardInterrupt

    def lost(_: object) -> None:
        if server.poll() is not None:
            raise KeyboardInterrupt

    try:
        signals.to(leave)
        for event in client.events(since=since, lost=lost):
            if event.type == "status" and event.payload["status"] == "starting":
                return event
    except KeyboardInterrupt:
        pass
    return None


@contextmanager
def served(workspace: Workspace, port: int) -> Generator[tuple[subprocess.Popen[bytes], Client]]:
    """The workspace's server as a process that answers, and a client of it.

    It has a session of its own: Ctrl-C is for the training, which is stopped through it.
    """
    log = workspace.outputs / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = ["-w", str(workspace.root), "serve", "--host=127.0.0.1", f"--port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tsuzuku", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    settings = workspace.config().settings.server
    try:
        with Client(f"http://127.0.0.1:{port}", token=settings.token) as client:
            _wait_until_ready(process, client, log)
            yield process, client
    finally:
        process.terminate()
        process.wait()


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TsuzukuError("No port is free on 127.0.0.1.", code="address_in_use")


def _wait_until_ready(process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.health()
        except Unreachable:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace").strip()
                raise TsuzukuError(
                    f"The server did not start: {said[-500:] or 'it said nothing'}",
                    f"{log} has all it said.",
                ) from None
            time.sleep(0.05)
        else:
            return


def _show_where(url: str) -> None:
    console.print(f"\n[bold]Watch it here:[/] {url}/   (the API: {url}/docs)")
    console.print("The page can be closed and opened again; Ctrl-C here saves and stops.\n")
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if console.is_terminal and (shown or sys.platform == "darwin"):
        webbrowser.open(f"{url}/")


def _transcribe(client: Client) -> None:
    console.print("\nSentences that it has never heard:")
    for number in range(SENTENCES):
        try:
            answer = client.infer(sample=number, model_name=MODEL)
        except (NotFound, WrongInput):
            if number == 0:
                raise
            break  # there are no more
        reference = answer.outputs.get("reference")
        if reference is not None:
            console.print(f"  said   {escape(str(reference.value))}")
        heard = escape(answer.transcription or "")
        console.print(f"  heard  [bold]{heard}[/] [dim]{answer.inference_time_ms:.0f} ms[/]\n")
