"""Errors and kills at every single call to the operating system, injected by strace.

Each operation on checkpoints is done again and again in a real process; the n-th of its writes,
fsyncs, renames, links and unlinks fails, or kills it. After each: the newest good checkpoint loads,
nothing is half there, and the error was said in one sentence.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty import BEST, LATEST, OPERATIONS
from tsuzuku.core import checkpoint_files
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.opening import load

CALLS = {
    "write": "write,pwrite64",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "link": "link,linkat,symlink,symlinkat",
    "unlink": "unlink,unlinkat",
    "open": "open,openat",
}
FAULTS = ("EIO", "ENOSPC", "EROFS", "KILL")
MOST = 200
"""Calls of one kind in an operation; beyond it something is wrong."""


class Bench:
    """The program `faulty`, and how its operations end with a fault injected."""

    def __init__(self, run: RunDir, log: Path) -> None:
        self.run, self.log = run, log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faulty", str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self._line() == "ready"

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def do(self, operation: str, calls: str, fault: str, nth: int) -> tuple[int, str, bool]:
        """Exit status, what was said, and whether the fault was injected at all."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{operation}\n")
        self.process.stdin.flush()
        pid = json.loads(self._line())["pid"]
        what = "signal=KILL" if fault == "KILL" else f"error={fault}"
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-p", str(pid), "-o", str(self.log)),
                *("-e", f"trace={calls}", "-e", f"inject={calls}:{what}:when={nth}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        os.kill(pid, signal.SIGCONT)
        ended: dict[str, Any] = json.loads(self._line())
        tracer.stderr.read()
        tracer.wait(60)
        trace = self.log.read_text(errors="replace")
        injected = "INJECTED" in trace or "killed by SIGKILL" in trace
        return int(ended["status"]), str(ended["said"]), injected

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if shutil.which("strace") is None:
        pytest.skip("There is no strace, without which no call can be made to fail.")
    run = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    one = Bench(run, tmp_path / "trace")
    yield one
    one.close()


def assert_nothing_is_lost(run: RunDir, operation: str) -> None:
    """Before and after what a crash left is swept."""
    for _ in range(2):
        good, odd = checkpoint_files.in_folder(run.checkpoints)
        assert odd == []
        for file in good:
            checkpoint_files.check(file)
            assert load(file.path)["epoch"] == file.epoch
        newest = 2 if operation == "set aside" else 3
        assert max(f.epoch for f in good) >= newest
        for name in (LATEST, BEST):
            link = run.checkpoints / name
            if link.exists():
                checkpoint_files.check(checkpoint_files.read(link.resolve()))
        checkpoint_files.sweep(run)
    left = {p.name for p in run.checkpoints.iterdir()}
    assert not {n for n in left if n.startswith(".")}
    assert not {n for n in left if n.endswith(".json") and n.removesuffix(".json") not in left}
    exported = run.path / "w.safetensors"
    if exported.exists():
        from safetensors.torch import load_file

        assert load_file(exported)["w"].shape == (30_000,)
        exported.unlink()
    for path in run.path.glob("w.safetensors*"):
        path.unlink()


def through(bench: Bench, operation: str, kind: str, fault: str) -> int:
    """Let each call of a kind fail in turn; how many there were."""
    for nth in range(1, MOST):
        status, said, injected = bench.do(operation, CALLS[kind], fault, nth)
        where = f"{operation}, {fault} at {kind} {nth}: {status} {said}"
        assert_nothing_is_lost(bench.run, operation)
        if not injected:
            assert status == 0, where
            return nth - 1
        if fault == "KILL":
            assert status == -signal.SIGKILL, where
        else:
            # it went on all the same (a link that nothing depends on), or says what was wrong
            assert status in (0, 3), where
            assert status == 0 or re.match(r"(write_failed|disk_full|error|[a-z_]+): \S", said)
            assert "Traceback" not in said, where
    raise AssertionError(f"{operation} never got through its calls to {kind}")


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_at_every_call(bench: Bench, operation: str, kind: str, fault: str) -> None:
    count = through(bench, operation, kind, fault)
    print(f"{operation}: {count} calls to {kind}, each with {fault}")
