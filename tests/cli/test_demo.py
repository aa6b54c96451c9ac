"""demo, as somebody runs it who has nothing yet, but with little speech so that it is quick."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from servers import free_port
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

SMALL = ["num_epochs=2", "scheduler=none", "models.conformer.layers=1", "models.conformer.width=32"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "demo"
    tsuzuku(made, "init", str(made))
    tsuzuku(made, "data", "make", "speech", "--count", "48")
    return made


def tsuzuku(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "tsuzuku", "-w", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tsuzuku", "-w", str(folder), "demo", *SMALL]
    return subprocess.Popen(
        [*command, "--port", str(free_port()), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What a process says until it has said `words`."""
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if words in line:
            return "".join(said)
    raise AssertionError(f"It ended without {words!r}:\n{''.join(said)}")


def test_it_trains_transcribes_and_ends(folder: Path) -> None:
    process = demo(folder, "--until-trained")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert re.search(r"Watch it here: http://127\.0\.0\.1:\d+/ ", said)
    assert said.count("  said   ") == said.count("  heard  ") == 2
    assert said.index("Watch it here") < said.index("学習開始") < said.index("  heard  ")
    with Store(Workspace(folder).db) as store:
        (run,) = store.runs()
    assert (run.status, run.epoch, run.model_name) == ("completed", 2, "conformer")


def test_a_signal_saves_and_the_next_demo_goes_on(folder: Path) -> None:
    process = demo(folder, "num_epochs=200")
    said = read_until(process, "saved conformer-ljspeech-epoch-1.pt")
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    with Store(Workspace(folder).db) as store:
        (run,) = store.runs()
    assert run.status == "stopped"
    again = demo(folder, f"num_epochs={run.epoch + 1}")
    said = read_until(again, "The page stays at")
    assert "  heard  " in said
    address = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert address is not None
    with urllib.request.urlopen(address[0]) as page:
        assert b"<title>" in page.read()
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert again.returncode == 0
    with Store(Workspace(folder).db) as store:
        (run,) = store.runs()
    assert (run.status, run.attempt) == ("completed", 2)


def test_what_is_done_on_the_page_is_shown_and_the_page_stays(folder: Path) -> None:
    process = demo(folder, "num_epochs=200")
    said = read_until(process, "saved conformer-ljspeech-epoch-1.pt")
    address = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert address is not None
    ask(f"{address[0]}/api/train/stop")
    assert "Stopped." in read_until(process, "The page stays at")
    epoch = ask(f"{address[0]}/api/progress")["current_epoch"]
    pair = {"model_name": "conformer", "dataset_name": "ljspeech"}
    ask(f"{address[0]}/api/train/resume", {**pair, "epochs": epoch + 1})
    said = read_until(process, "The page stays at")
    assert f"saved conformer-ljspeech-epoch-{epoch + 1}.pt" in said
    assert "  heard  " in said
    process.send_signal(signal.SIGINT)
    assert "Everything is in the workspace" in process.communicate(timeout=60)[0]
    assert process.returncode == 0


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers: a POST, or a GET for what only says."""
    data = None if url.endswith("progress") else json.dumps(body or {}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_server_that_cannot_start_is_told_with_its_own_words(folder: Path) -> None:
    words = ["-w", str(folder), "serve", "--port", str(free_port())]
    with subprocess.Popen(
        [sys.executable, "-m", "tsuzuku", *words], stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stderr is not None
        other.stderr.readline()
        process = demo(folder)
        said, _ = process.communicate(timeout=60)
        other.terminate()
    assert process.returncode == 1
    assert "The server did not start" in said
    assert "Another server has the workspace" in said
    assert "Traceback" not in said
