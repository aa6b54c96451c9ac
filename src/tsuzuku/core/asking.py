"""Asking a worker for something that needs torch: one process, a JSON object a line."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import (
    Busy,
    CorruptCheckpoint,
    DiskFull,
    NotFound,
    TsuzukuError,
    WrongInput,
)
from tsuzuku.core.launch import worker_command, worker_environment
from tsuzuku.core.workspace import Workspace


def ask_worker(workspace: Workspace, *words: str) -> Iterator[dict[str, Any]]:
    """Run a worker command and yield its answers; raises what it reports as an error."""
    with (
        # a pipe would be full one day, and hold up a plug-in that prints much
        tempfile.TemporaryFile("w+", errors="replace") as printed,
        subprocess.Popen(
            worker_command(*workspace_words(workspace), *words),
            cwd=workspace.root if workspace.root.is_dir() else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            env=worker_environment(),
        ) as process,
    ):
        assert process.stdout is not None
        failed = False
        for line in process.stdout:
            answer = json.loads(line)
            if "error" in answer and "ok" not in answer:
                raise as_error(answer, WrongInput if process.wait() == 2 else TsuzukuError)
            failed = failed or answer.get("ok") is False or answer.get("same") is False
            yield answer
        if process.wait() and not failed:
            printed.seek(0)
            said = printed.read().strip().splitlines()
            raise TsuzukuError(f"The worker failed: {said[-1] if said else process.returncode}")


def gathered(workspace: Workspace, file: CheckpointFile) -> CheckpointFile:
    """The checkpoint as one file: a worker gathers it, if it is in parts.

    Raises what the worker says, as what it is.
    """
    if parts.KEY not in file.info:
        return file
    for answer in ask_worker(workspace, "gather", str(file.path)):
        if not answer.get("ok"):
            kinds = {kind.code: kind for kind in (Busy, CorruptCheckpoint, DiskFull)}
            raise as_error(answer, kinds.get(str(answer.get("code")), TsuzukuError))
    return checkpoint_files.read(file.path)


def as_error(answer: dict[str, Any], kind: type[TsuzukuError]) -> TsuzukuError:
    """What a worker says went wrong, as an error of that kind (or one that its code tells)."""
    code = str(answer.get("code", ""))
    if code == NotFound.code:
        kind = NotFound
    return kind(str(answer["error"]), str(answer.get("hint", "")), code=code)


def workspace_words(workspace: Workspace) -> list[str]:
    """The options that tell a worker where it works."""
    return ["--workspace", str(workspace.root), "--outputs", str(workspace.outputs)]
