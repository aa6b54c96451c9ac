"""Worker commands as others start them: real processes, JSON lines."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

from tsuzuku.core.launch import worker_command, worker_environment


def command(root: Path, *words: object) -> list[str]:
    return worker_command("--workspace", str(root), *map(str, words))


def worker(root: Path, *words: object, code: int = 0) -> list[dict[str, Any]]:
    """What a worker command answered; it must end with `code` and print nothing but JSON."""
    done = subprocess.run(
        command(root, *words), cwd=root, env=worker_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class DeskProcess:
    """A desk, and somebody who sits in front of it."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            command(root, "desk"), cwd=root, env=worker_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options,
        )  # fmt: skip
        self._number = 0

    def send(self, line: bytes) -> dict[str, Any]:
        """The answer to a line, whatever that is."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request, which must carry the request's id."""
        self._number += 1
        answer = self.send(json.dumps({"id": self._number, "do": do, **request}).encode())
        assert answer.pop("id") == self._number
        return answer

    def end(self) -> int:
        """Close its input; the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
