"""What the documentation tells people to paste or to run, run as they would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import free_port, kill_workers

ROOT = Path(__file__).parent.parent
SESSION = re.compile(r"<!-- session -->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLOTHES = Path("/usr/share/datasets/fashion-mnist")
BIN = Path(sys.executable).parent
PATIENCE = 280.0


def session(readme: str) -> str:
    found = SESSION.findall((ROOT / readme).read_text(encoding="utf-8"))
    assert len(found) == 1
    return found[0]


def commands(script: str) -> list[str]:
    """A script's lines without those that are comments."""
    return [line for line in script.splitlines() if not line.startswith("#")]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A free port, and the programs of this installation first."""
    yield {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    kill_workers(tmp_path / "session")


def test_the_session_is_the_same_in_both_languages() -> None:
    assert commands(session("README.md")) == commands(session("README.ja.md"))


@pytest.mark.skipif(
    not CLOTHES.exists(), reason="NOT RUN: Debian's dataset-fashion-mnist is missing"
)
def test_the_session_works_when_pasted(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session("README.md")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    events = re.findall(r"^(\d+) (\w+) (\{.*\})$", done.stdout, re.MULTILINE)
    # a client that comes back, even to another server, has missed nothing and gets nothing twice
    assert [int(seq) for seq, _, _ in events] == list(range(1, len(events) + 1))
    told = [json.loads(payload)["status"] for _, kind, payload in events if kind == "status"]
    assert told == [
        *("starting", "running", "stopping", "stopped"),
        *("starting", "running", "completed"),
    ]
    assert '"mode":"continue"' in done.stdout
    curves = next(line for line in done.stdout.splitlines() if '"curves"' in line)
    assert len(json.loads(curves)["resumes"]) == 1
    assert "reconstruction" in done.stdout
    assert "Traceback" not in said


def test_the_resume_script_finds_nothing_wrong(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "test_resume_training.py"), "--own-server"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line for line in done.stdout.splitlines() if line.startswith(("✓", "✗"))]
    assert len(checks) == 20
    assert all(line.startswith("✓") and " / " in line for line in checks)


def test_the_resume_script_says_when_there_is_no_server() -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "examples" / "test_resume_training.py")),
            *("--url", f"http://127.0.0.1:{free_port()}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "No server at" in done.stdout
    assert "Traceback" not in done.stderr
