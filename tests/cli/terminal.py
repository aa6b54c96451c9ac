"""The command line as a user runs it: a real process in a workspace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "tsuzuku", *map(str, words)]


def cli(folder: Path, *words: object, code: int = 0) -> str:
    """What a command printed; it must end with `code` and never with a traceback."""
    done = subprocess.run(
        command(*words), cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, f"exit code {done.returncode}:\n{said}"
    assert "Traceback" not in said, said
    return said


def ask(folder: Path, *words: object, code: int = 0) -> Any:
    """The JSON that a command printed."""
    done = subprocess.run(
        command(*words, "--json"), cwd=folder, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_step(folder: Path, step: int, seconds: float = 120.0) -> dict[str, Any]:
    """Wait until a training has reported that step; the status of its run."""
    from tsuzuku.core.store import Store

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        database = folder / "outputs" / "tsuzuku.db"
        if database.exists():
            with Store(database) as store:
                for run in store.runs(limit=1):
                    newest = store.last_event(run.run_id, "progress")
                    if newest and newest.payload["global_step"] >= step:
                        return {"run_id": run.run_id, **newest.payload}
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")
