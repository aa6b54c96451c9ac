"""Who uses a checkpoint is known to every process, and forgotten with its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tsuzuku.core.holding import Hold, held, is_held, remove_unless_held
from tsuzuku.core.sidecars import sidecar

HOLDS = """
import sys, time
from pathlib import Path
from tsuzuku.core.holding import Hold
hold = Hold(Path(sys.argv[1]))
print("holding", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.pt"
    path.write_bytes(b"weights")
    sidecar(path).write_text("{}")
    return path


def test_what_is_held_is_not_removed(path: Path) -> None:
    with held(path):
        assert is_held(path)
        assert not remove_unless_held(path)
        assert path.exists()
        assert sidecar(path).exists()
    assert not is_held(path)
    assert remove_unless_held(path)
    assert not path.exists()
    assert not sidecar(path).exists()


def test_several_may_hold_one(path: Path) -> None:
    one, other = Hold(path), Hold(path)
    one.release()
    one.release()
    assert is_held(path)
    del other
    assert not is_held(path)


def test_another_name_of_the_file_is_held_too(path: Path) -> None:
    best = path.with_name("best.pt")
    best.hardlink_to(path)
    with held(best):
        assert is_held(path)


def test_a_killed_process_holds_nothing_any_more(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        assert is_held(path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not is_held(path)


def test_what_is_not_there_is_nobody_s(tmp_path: Path) -> None:
    gone = tmp_path / "gone.pt"
    Hold(gone).release()
    assert not is_held(gone)
    assert remove_unless_held(gone)
