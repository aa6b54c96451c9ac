"""The lock that says that a worker lives, with real processes and real signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plain_plugins import python, ran
from tsuzuku.core.errors import Busy
from tsuzuku.core.lock import RunLock, holder

HOLD = """
import sys
from pathlib import Path
from tsuzuku.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
for line in sys.stdin:
    if line == "release\\n":
        lock.release()
    print("done", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / ".lock"


@contextmanager
def held_by_another(path: Path, code: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    process = python(code, path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_and_told_who_holds_it(path: Path) -> None:
    with held_by_another(path) as other:
        with pytest.raises(Busy, match=str(other.pid)) as caught:
            RunLock(path).acquire()
        assert caught.value.code == "already_running"
        assert holder(path) == other.pid


def test_a_refused_try_and_questions_leave_the_lock_where_it_is(path: Path) -> None:
    with held_by_another(path) as other:
        for _ in range(5):
            assert holder(path) == other.pid
            with pytest.raises(Busy):
                RunLock(path).acquire()
        ask = "import sys; from pathlib import Path; from tsuzuku.core.lock import holder"
        assert ran(f"{ask}; print(holder(Path(sys.argv[1])))", path).strip() == str(other.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_lock_ends_with_its_process_however_that_ends(path: Path, number: int) -> None:
    with held_by_another(path) as other:
        os.kill(other.pid, number)
        other.wait()
        assert holder(path) is None
        mine = RunLock(path)
        mine.acquire()
        mine.release()


def test_a_released_lock_is_free_while_its_process_lives_on(path: Path) -> None:
    with held_by_another(path) as other:
        assert tell(other, "release") == "done"
        assert holder(path) is None
        with held_by_another(path) as third:
            assert holder(path) == third.pid


def test_releasing_twice_or_without_holding_does_nothing(path: Path) -> None:
    lock = RunLock(path)
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    assert holder(path) is None


def test_nobody_holds_a_lock_that_is_not_there(path: Path) -> None:
    assert holder(path) is None
    path.parent.mkdir()
    path.touch()
    assert holder(path) is None


def test_a_process_that_is_stopped_still_holds_it(path: Path) -> None:
    with held_by_another(path) as other:
        os.kill(other.pid, signal.SIGSTOP)
        assert holder(path) == other.pid


FORK = """
import os, sys
from pathlib import Path
from tsuzuku.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
child = os.fork()
if child == 0:
    sys.stdin.readline()  # lives on after its parent
    os._exit(0)
print("held", flush=True)
print(child, flush=True)
for line in sys.stdin: pass
"""


def test_a_forked_child_does_not_keep_its_dead_parents_lock(path: Path) -> None:
    with held_by_another(path, FORK) as other:
        assert other.stdout is not None
        child = int(other.stdout.readline())
        assert holder(path) == other.pid
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        os.kill(child, 0)  # the child is alive
        assert holder(path) is None
        os.kill(child, signal.SIGKILL)


CHILD_ENDS = """
import os, subprocess, sys
from pathlib import Path
from tsuzuku.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
pid = os.fork()
if pid == 0:
    lock.release()
    os._exit(0)
os.waitpid(pid, 0)
subprocess.run([sys.executable, "-c", "pass"], check=True)
print("held", flush=True)
sys.stdin.readline()
"""


def test_children_that_end_do_not_take_the_lock_along(path: Path) -> None:
    with held_by_another(path, CHILD_ENDS) as other:
        assert holder(path) == other.pid


RACE = """
import sys
from pathlib import Path
from tsuzuku.core.errors import Busy
from tsuzuku.core.lock import RunLock
print("ready", flush=True)
sys.stdin.readline()
try:
    RunLock(Path(sys.argv[1])).acquire()
    print("mine", flush=True)
except Busy:
    print("busy", flush=True)
sys.stdin.readline()
"""


def test_of_many_that_try_at_once_exactly_one_gets_it(path: Path) -> None:
    processes = [python(RACE, path) for _ in range(5)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [p.stdout.readline().strip() for p in processes if p.stdout]
    for process in processes:
        process.communicate("\n")
    assert sorted(answers) == ["busy"] * 4 + ["mine"]
